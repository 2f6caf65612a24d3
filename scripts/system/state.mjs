/**
 * State directories, one per system. Its name, six hexadecimal digits, is part of the name of everything that the
 * system makes on the host, so that two clones, and private systems of tests and demos, never touch one another.
 */
import { createHash, randomBytes } from 'node:crypto'
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { identify, isAlive } from './processes.mjs'
import { HOME, isRoot } from './tools.mjs'

/** @typedef {{ clone: string, owner: import('./processes.mjs').ProcessIdentity | null }} SystemRecord */

// Servers run as other users, which cannot look below /root.
export const BASE = isRoot ? '/var/lib/sandtrail' : join(tmpdir(), `sandtrail-${process.getuid?.()}`)

/** @param {string} dir */
export const systemId = (dir) => basename(dir)

/** The lasting system of this clone: what `make up` starts. */
export function lastingDir() {
  const dir = join(BASE, createHash('sha256').update(HOME).digest('hex').slice(0, 6))
  prepare(dir, null, true)
  return dir
}

/**
 * Names the process that private systems belong to when it is not the one that makes them: Jest's main process, which
 * outlives its workers and hears of an interrupt.
 */
export const OWNER = '_SANDTRAIL_OWNER'

const owner = () => identify(Number(process.env[OWNER] ?? process.pid))

/** A new private system; whatever it leaves is swept once its owner is gone. */
export function createPrivateDir() {
  for (;;) {
    const dir = join(BASE, randomBytes(3).toString('hex'))
    try {
      prepare(dir, owner(), false)
      return dir
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error
    }
  }
}

/** @param {string} dir @param {SystemRecord['owner']} ownedBy @param {boolean} mayExist */
function prepare(dir, ownedBy, mayExist) {
  mkdirSync(BASE, { recursive: true })
  // Others pass through to what is theirs, but list nothing.
  chmodSync(BASE, 0o711)
  mkdirSync(dir, { recursive: mayExist, mode: 0o711 })
  chmodSync(dir, 0o711)
  writeFileSync(join(dir, 'system.json'), JSON.stringify({ clone: dirname(HOME), owner: ownedBy }))
}

/** @param {string} dir @returns {SystemRecord | null} */
export function readSystem(dir) {
  try {
    return JSON.parse(readFileSync(join(dir, 'system.json'), 'utf8'))
  } catch {
    return null
  }
}

/** Directories of private systems that belong to this process, or to the one that OWNER names. */
export function ownedDirs() {
  const { pid, startTime } = owner()
  return listDirs().filter((dir) => {
    const theirs = readSystem(dir)?.owner
    return theirs?.pid === pid && theirs.startTime === startTime
  })
}

/** Directories whose owner died without cleaning up, or whose clone is gone. */
export function abandonedDirs() {
  return listDirs().filter((dir) => {
    const system = readSystem(dir)
    // Not written yet, or its owner was killed before: a minute tells.
    if (system === null) return ageMs(dir) > 60_000
    return system.owner !== null ? !isAlive(system.owner) : !exists(system.clone)
  })
}

function listDirs() {
  try {
    return readdirSync(BASE)
      .filter((name) => /^[0-9a-f]{6}$/.test(name))
      .map((name) => join(BASE, name))
  } catch {
    return []
  }
}

const ageMs = (/** @type {string} */ path) =>
  Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0)
const exists = (/** @type {string} */ path) => statSync(path, { throwIfNoEntry: false }) !== undefined
