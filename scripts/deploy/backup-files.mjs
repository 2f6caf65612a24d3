/**
 * A backup is a directory:
 *
 *   log.dump          the database by pg_dump, all of it but the tenants' keys
 *   trail.jsonl       the trail outside the database, up to the same position
 *   trail.vkey        the public key that `verify` checks it with
 *   manifest.json     what it is, and the sha256 of each file: written last
 *
 * and, apart from it, another one with `tenant-keys.dump` and a manifest.
 */
import { createHash } from 'node:crypto'
import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'

export const LOG_DUMP = 'log.dump'
export const TRAIL = 'trail.jsonl'
export const VERIFIER_KEY = 'trail.vkey'
export const KEYS_DUMP = 'tenant-keys.dump'
export const MANIFEST = 'manifest.json'
/** Wrapped by the master key; erased by deleting them, so a backup of them must be forgotten in time. */
export const KEYS_TABLE = 'tenant_keys'

/**
 * @typedef {object} Manifest
 * @property {1} format
 * @property {'log' | 'tenant-keys'} kind
 * @property {string} release of the package that made it
 * @property {string} takenAt RFC 3339, by the database's clock
 * @property {number} position the last one in the dump
 * @property {number} events
 * @property {boolean} quiet no service was connected and every event had its position
 * @property {Record<string, { bytes: number, sha256: string }>} files
 */

/** @param {string} dir @param {string[]} names @returns {Promise<Manifest['files']>} */
export async function describeFiles(dir, names) {
  /** @type {Manifest['files']} */
  const files = {}
  for (const name of names) {
    const path = join(dir, name)
    files[name] = { bytes: statSync(path).size, sha256: await sha256(path) }
  }
  return files
}

/** The manifest of a whole backup. @param {string} dir @param {Manifest['kind']} kind @returns {Promise<Manifest>} */
export async function readBackup(dir, kind) {
  const path = join(dir, MANIFEST)
  if (!existsSync(path))
    throw new Error(`${dir} is no backup, or one that was cut off: it has no ${MANIFEST}`)
  /** @type {Manifest} */
  const manifest = JSON.parse(readFileSync(path, 'utf8'))
  if (manifest.format !== 1 || manifest.kind !== kind)
    throw new Error(`${dir} is a backup of another kind: ${manifest.kind}, format ${manifest.format}`)
  for (const [name, { sha256: wanted }] of Object.entries(manifest.files)) {
    if (!existsSync(join(dir, name))) throw new Error(`${dir} lacks ${name}`)
    if ((await sha256(join(dir, name))) !== wanted)
      throw new Error(`${join(dir, name)} was changed or is rotten: its sha256 is not that of ${MANIFEST}`)
  }
  return manifest
}

/** @param {string} path */
async function sha256(path) {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk)
  return hash.digest('hex')
}
