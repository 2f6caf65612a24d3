/** A backup of a running system, consistent as of one snapshot of the database (docs/backup.md). */
import {
  closeSync,
  cpSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join, resolve } from 'node:path'
import pg from 'pg'
import { CLONE } from '../system/tools.mjs'
import {
  describeFiles,
  KEYS_DUMP,
  KEYS_TABLE,
  LOG_DUMP,
  MANIFEST,
  TRAIL,
  VERIFIER_KEY,
} from './backup-files.mjs'
import { postgresTool } from './postgres-tools.mjs'
import { otherSessions } from './sessions.mjs'

const FACTS = `
  select pg_export_snapshot() as snapshot, clock_timestamp() as "takenAt",
         (select coalesce(max(position), 0) from ledger)::int8 as position,
         (select count(*) from events)::int8 as events
`

/**
 * @param {import('./layout.mjs').Layout} layout @param {string} adminUrl
 * @param {string} to directory to be made @param {string | undefined} keysTo another, for the tenants' keys
 */
export async function backup(layout, adminUrl, to, keysTo) {
  const publicKey = readFileSync(layout.key('trail.vkey'), 'utf8').trim()
  const client = new pg.Client({ connectionString: adminUrl, application_name: 'backup' })
  await client.connect()
  try {
    // Whoever is connected may commit after the snapshot: looked at before it.
    const sessions = await otherSessions(client)
    await client.query('begin isolation level repeatable read read only')
    const { rows } = await client.query(FACTS)
    const { snapshot, takenAt, ...counts } = rows[0]
    const [position, events] = [Number(counts.position), Number(counts.events)]
    const dump = ['--format=custom', `--snapshot=${snapshot}`]
    const facts = {
      format: 1,
      release: JSON.parse(readFileSync(join(CLONE, 'package.json'), 'utf8')).version,
      takenAt: takenAt.toISOString(),
      position,
      events,
      quiet: sessions.length === 0 && position === events,
    }

    await make(to, async (dir) => {
      const file = `--file=${join(dir, LOG_DUMP)}`
      await postgresTool('pg_dump', adminUrl, [...dump, `--exclude-table-data=${KEYS_TABLE}`, file])
      // After the snapshot, so whatever the dump has of checkpoints, the file has too.
      await (await import('#libs/event-store')).copyTrail(layout.trailFile, join(dir, TRAIL), {
        position,
        publicKey,
      })
      cpSync(layout.key('trail.vkey'), join(dir, VERIFIER_KEY))
      return { ...facts, kind: 'log', files: await describeFiles(dir, [LOG_DUMP, TRAIL, VERIFIER_KEY]) }
    })
    console.log(`position ${position}, ${events} events: ${resolve(to)}`)

    if (keysTo === undefined) return
    await make(keysTo, async (dir) => {
      const file = `--file=${join(dir, KEYS_DUMP)}`
      await postgresTool('pg_dump', adminUrl, [...dump, '--data-only', `--table=${KEYS_TABLE}`, file])
      return { ...facts, kind: 'tenant-keys', files: await describeFiles(dir, [KEYS_DUMP]) }
    })
    console.log(`the tenants' keys, wrapped: ${resolve(keysTo)}`)
  } finally {
    await client.end()
  }
}

/** All of it or nothing: what is not whole has another name. @param {string} to @param {(dir: string) => Promise<object>} fill */
async function make(to, fill) {
  const target = resolve(to)
  if (existsSync(target)) throw new Error(`${target} exists already: name a directory to be made`)
  const partial = `${target}.partial`
  rmSync(partial, { recursive: true, force: true })
  mkdirSync(partial, { recursive: true, mode: 0o700 })
  const manifest = await fill(partial)
  writeFileSync(join(partial, MANIFEST), `${JSON.stringify(manifest, null, 2)}\n`)
  for (const name of [LOG_DUMP, KEYS_DUMP, MANIFEST, '.']) sync(join(partial, name))
  renameSync(partial, target)
  sync(join(target, '..'))
}

/** @param {string} path */
function sync(path) {
  if (!existsSync(path)) return
  const fd = openSync(path, 'r')
  fsyncSync(fd)
  closeSync(fd)
}
