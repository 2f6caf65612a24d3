/**
 * Sets an installation to a backup: database, trail file, broker (docs/backup.md). Its services must be stopped.
 *
 * Nothing is lost when the backup was taken with the services stopped and the trail file at hand ends where it does:
 * then sandboxes go on. Otherwise what happened after the backup is not known any more, which the log then says, and
 * every sandbox that it has as living is recorded as lost. The trail file at hand is kept under another name: it
 * proves what there was. It is replaced last, so that a restore which was cut off is simply done again.
 */
import { spawnSync } from 'node:child_process'
import {
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import pg from 'pg'
import { CLONE } from '../system/tools.mjs'
import { KEYS_DUMP, LOG_DUMP, readBackup, TRAIL, VERIFIER_KEY } from './backup-files.mjs'
import { postgresTool } from './postgres-tools.mjs'
import { otherSessions } from './sessions.mjs'

/**
 * @param {import('./layout.mjs').Layout} layout @param {string} adminUrl @param {string} from
 * @param {string | undefined} keysFrom the newest backup of the tenants' keys, so that no erasure is undone
 */
export async function restore(layout, adminUrl, from, keysFrom) {
  const manifest = await readBackup(from, 'log')
  if (keysFrom !== undefined) await readBackup(keysFrom, 'tenant-keys')
  const { position, takenAt } = manifest
  const found = await lookAtTrail(layout, from, position)
  await prepareDatabase(adminUrl)

  const whole = ['--exit-on-error', '--single-transaction', '--no-owner', '--dbname=']
  await postgresTool('pg_restore', adminUrl, [...whole, join(from, LOG_DUMP)])
  if (keysFrom !== undefined)
    await postgresTool('pg_restore', adminUrl, [...whole, join(keysFrom, KEYS_DUMP)])
  const { migrate } = await import('#migrations')
  await migrate(adminUrl)
  await verify(adminUrl, join(from, TRAIL), readFileSync(join(from, VERIFIER_KEY), 'utf8').trim())

  const isComplete = manifest.quiet && found !== null && found.last === position
  if (!isComplete) settle(layout, adminUrl, { position, takenAt, lostEvents: found?.lostEvents ?? null })
  replaceTrail(layout.trailFile, join(from, TRAIL))
  console.log(tellPosition(manifest, found, isComplete))
  if (keysFrom === undefined)
    console.log("without the tenants' keys: values of env and small stdins stay sealed for ever")
  console.log('next: sandtrail-admin install, then start the services')
}

/**
 * The same for a database that was set back by other means: point-in-time recovery, a snapshot of its disk. The trail
 * file at hand must hold what the database has.
 * @param {import('./layout.mjs').Layout} layout @param {string} adminUrl
 */
export async function adopt(layout, adminUrl) {
  const { compareTrails, copyTrail } = await import('#libs/event-store')
  const publicKey = readFileSync(layout.key('trail.vkey'), 'utf8').trim()
  const { position, takenAt } = await endOfLedger(adminUrl)
  const cut = `${layout.trailFile}.cut`
  rmSync(cut, { force: true })
  await copyTrail(layout.trailFile, cut, { position, publicKey })
  const found = await compareTrails(layout.trailFile, cut, position)
  await verify(adminUrl, cut, publicKey)
  settle(layout, adminUrl, { position, takenAt, lostEvents: found.lostEvents })
  replaceTrail(layout.trailFile, cut)
  rmSync(cut)
  console.log(tellPosition({ position, takenAt }, found, false))
  console.log('next: start the services')
}

/** Refuses a database that somebody uses. @param {string} url */
async function endOfLedger(url) {
  const client = new pg.Client({ connectionString: url, application_name: 'restore' })
  await client.connect()
  try {
    await refuseSessions(client)
    const { rows } = await client.query('select position, at from ledger order by position desc limit 1')
    const [last] = rows
    return { position: Number(last?.position ?? 0), takenAt: (last?.at ?? new Date()).toISOString() }
  } finally {
    await client.end()
  }
}

/** @param {pg.Client} client */
async function refuseSessions(client) {
  const sessions = await otherSessions(client)
  if (sessions.length > 0)
    throw new Error(`others are connected to the database: ${sessions.join(', ')}. Stop the services first`)
}

/** What the trail file at hand knows; null: there is none. @param {import('./layout.mjs').Layout} layout @param {string} from @param {number} position */
async function lookAtTrail(layout, from, position) {
  if (!existsSync(layout.trailFile)) return null
  const { compareTrails } = await import('#libs/event-store')
  const found = await compareTrails(layout.trailFile, join(from, TRAIL), position)
  if (found.differsAt === null) return found
  throw new Error(
    `${layout.trailFile} is not of the backup's log: they differ at position ${found.differsAt}. Find out why; if it may go, move it away and restore again`,
  )
}

/** Refuses one that holds anything or that somebody uses; makes the roles that the dump grants rights to. @param {string} url */
async function prepareDatabase(url) {
  const client = new pg.Client({ connectionString: url, application_name: 'restore' })
  await client.connect()
  try {
    const { rows } = await client.query(
      `select count(*)::int as count from pg_class where relnamespace = 'public'::regnamespace`,
    )
    if (rows[0].count > 0)
      throw new Error(
        'the database is not empty: a restore goes into a new one (createdb), never over another',
      )
    await refuseSessions(client)
    for (const role of ['sandtrail_service', 'sandtrail_auditor']) {
      const known = await client.query('select from pg_roles where rolname = $1', [role])
      if (known.rowCount === 0) await client.query(`create role ${role} nologin`)
    }
  } finally {
    await client.end()
  }
}

/** @param {string} databaseUrl @param {string} trailFile @param {string} publicKey */
async function verify(databaseUrl, trailFile, publicKey) {
  const { verifyTrail } = await import('#libs/event-store')
  const report = await verifyTrail({ databaseUrl, trailFile, publicKey })
  if (report.ok) {
    console.log(
      `verified: ${report.events} events in ${report.streams} streams, ${report.checkpoints} checkpoints`,
    )
    return
  }
  const first = report.problems.slice(0, 10).map(({ message }) => `  ${message}`)
  throw new Error(
    `the database does not verify, ${report.problemCount} problems. Nothing else was changed: take an older backup\n${first.join('\n')}`,
  )
}

/**
 * @param {import('./layout.mjs').Layout} layout @param {string} url
 * @param {{ position: number, takenAt: string, lostEvents: number | null }} told
 */
function settle(layout, url, told) {
  const program = join(CLONE, 'dist', 'apps', 'scheduler', 'after-restore.js')
  const env = { PATH: process.env.PATH, SANDTRAIL_DATABASE_URL: url }
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, JSON.stringify(told)], {
    env,
    encoding: 'utf8',
  })
  if (status !== 0)
    throw new Error(
      `what lived could not be recorded as lost: ${stderr.trim().slice(-2_000)}\nThe trail file here is as it was: mend the cause and do it again, a restore into an empty database`,
    )
  console.log(
    `${JSON.parse(stdout).ended} sandboxes that lived at position ${told.position} are recorded as lost`,
  )
  // Of the history that is gone: its events have positions that others will get.
  rmSync(layout.natsStore, { recursive: true, force: true })
}

/** The owner of the directory gets the file. @param {string} path @param {string} source */
function replaceTrail(path, source) {
  mkdirSync(dirname(path), { recursive: true, mode: 0o750 })
  const { uid, gid } = statSync(dirname(path))
  copyFileSync(source, `${path}.new`)
  chownSync(`${path}.new`, uid, gid)
  if (existsSync(path)) {
    const kept = `${path}.before-${new Date().toISOString().replaceAll(':', '')}`
    renameSync(path, kept)
    console.log(`the trail file that was here: ${kept}`)
  }
  renameSync(`${path}.new`, path)
}

/**
 * @param {{ position: number, takenAt: string }} at
 * @param {{ last: number, lostEvents: number, lostStreams: number } | null} found @param {boolean} isComplete
 */
function tellPosition({ position, takenAt }, found, isComplete) {
  const at = `at position ${position}, as of ${takenAt}`
  if (isComplete) return `${at}: nothing is lost`
  if (found === null) return `${at}: there was no trail file here, so nobody knows what came after`
  return `${at}: the trail file here went to position ${found.last}, so ${found.lostEvents} events in ${found.lostStreams} streams are lost, and what had no position yet`
}
