/** Backup under load, more load, the database lost, restore to the older point: honest, verified, nothing leaked. */

import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { openDatabase } from '#libs/event-store'
import { connect } from '#libs/messaging'
import { check } from './checker/check.js'
import { judgeHost, takeInventory } from './checker/host.js'
import { ROOT, TestSystem, until } from './system.js'

const backups = mkdtempSync(join(tmpdir(), 'sandtrail-backup-'))
let system: TestSystem
beforeAll(async () => {
  system = await TestSystem.start()
}, 180_000)
afterAll(async () => {
  await system?.stop()
  rmSync(backups, { recursive: true })
}, 60_000)

const run = promisify(execFile)
const NOT_WORKERS = ['gateway', 'scheduler-1', 'snapshotter', 'volume-syncer']

/** Rejects with its stderr. Of a `make up` system etc and state are one directory. */
async function admin(...args: string[]): Promise<string> {
  const { dir } = system.system
  const env = { ...process.env, DATABASE_ADMIN_URL: system.env.DATABASE_ADMIN_URL }
  const all = [...args, '--etc', dir, '--state', dir]
  return (await run(join(ROOT, 'bin', 'sandtrail-admin'), all, { env })).stdout
}

async function sql<Row extends object>(text: string, database = 'sandtrail'): Promise<Row[]> {
  const url = new URL(system.env.DATABASE_ADMIN_URL!)
  url.pathname = `/${database}`
  const db = openDatabase({ url: url.href, max: 1, name: 'wipe' })
  try {
    return (await db.query(text)).rows as Row[]
  } finally {
    await db.end()
  }
}

async function loseDatabase(): Promise<void> {
  await sql('drop database sandtrail with (force)', 'postgres')
  await sql('create database sandtrail', 'postgres')
}

const services = { stop: () => each('kill'), start: () => each('start') }
async function each(what: 'kill' | 'start'): Promise<void> {
  const names =
    what === 'kill' ? [...NOT_WORKERS, 'nats'] : ['postgres', 'nats', 'scheduler-1', ...NOT_WORKERS]
  for (const name of names) await system.system[what](name)
}

test('a restore to an older point says what is lost, ends what ran, and goes on', async () => {
  await system.ok('run', '--network', 'open', '--', 'true')
  const before = await atRest()

  const stays = await system.ok('create', '--name', 'stays', '--env', 'KEY=canary', '--volume', 'data:/data')
  const exec = await system.ok('exec', '--detach', stays, '--', 'sleep', '600')
  const ends = await system.ok('create', '--name', 'ends')
  await until(async () => (await system.types(exec)).includes('ExecStarted'))
  expect(await admin('backup', join(backups, 'log'), '--keys', join(backups, 'keys'))).toMatch(/position \d+/)
  expect(readdirSync(join(backups, 'log')).sort()).toEqual([
    'log.dump',
    'manifest.json',
    'trail.jsonl',
    'trail.vkey',
  ])

  // Unknown after the restore, though it runs; and an end that will not be known.
  const late = await system.ok('create', '--name', 'late')
  await system.ok('exec', late, '--', 'true')
  await system.ok('rm', ends)
  await until(async () => (await system.types(ends)).includes('SandboxCleanedUp'))

  await expect(admin('restore', join(backups, 'log'))).rejects.toThrow('not empty')
  await services.stop()
  await loseDatabase()
  const said = await admin('restore', join(backups, 'log'), '--keys', join(backups, 'keys'))
  expect(said).toMatch(/verified: \d+ events/)
  expect(said).toMatch(/2 sandboxes .* recorded as lost/)
  expect(said).toMatch(
    /at position \d+, as of .* went to position \d+, so [1-9]\d* events in \d+ streams are lost/,
  )
  const trail = join(system.system.dir, 'trail')
  expect(readdirSync(trail).filter((name) => name.startsWith('trail.jsonl.before-'))).toHaveLength(1)

  await services.start()
  expect((await system.run(['run', '--', 'echo', 'accepted'])).stdout).toBe('accepted\n')
  for (const sandbox of [stays, ends]) {
    const lost = (await system.history(sandbox)).find(({ type }) => type === 'SandboxLost')
    expect(lost?.data.reason).toMatch(/^the log was restored as of /)
  }
  await until(async () => (await system.types(exec)).includes('ExecLost'))
  expect((await system.run(['history', late])).code).not.toBe(0)
  // Its name is free again, and what the volume holds is on its worker's disk.
  await system.ok('run', '--name', 'late', '--volume', 'data:/data', '--', 'true')

  // The worker ends what the log does not want, that which it never heard of too.
  await judge(before, await atRest())
}, 300_000)

test('a move to another database with everything stopped loses nothing: its sandboxes go on', async () => {
  const stays = await system.ok('create', '--name', 'stays')
  const exec = await system.ok('exec', '--detach', stays, '--', 'sh', '-c', 'sleep 5; echo went on')
  for (const name of NOT_WORKERS) await system.system.kill(name, 'SIGTERM')
  await admin('backup', join(backups, 'whole'))
  await system.system.kill('nats')
  await loseDatabase()
  expect(await admin('restore', join(backups, 'whole'), '--keys', join(backups, 'keys'))).toMatch(
    'nothing is lost',
  )
  await services.start()
  expect(await system.ok('attach', exec)).toBe('went on')
  expect(await system.ok('exec', stays, '--', 'echo', 'here')).toBe('here')
  await system.ok('rm', stays)
  expect(await system.run(['verify'])).toMatchObject({ code: 0 })
}, 200_000)

test('a database that was set back by other means is adopted: what is lost is told, what lived ends, and it goes on', async () => {
  const stays = await system.ok('create', '--name', 'lived')
  for (const name of NOT_WORKERS) await system.system.kill(name, 'SIGTERM')
  await sql('create database earlier template sandtrail', 'postgres')
  await services.start()
  const late = await system.ok('create', '--name', 'too-late')
  await system.ok('rm', late)
  await services.stop()
  await sql('drop database sandtrail with (force)', 'postgres')
  await sql('alter database earlier rename to sandtrail', 'postgres')

  const said = await admin('adopt')
  expect(said).toMatch(/verified: \d+ events/)
  expect(said).toMatch(/1 sandboxes .* recorded as lost/)
  expect(said).toMatch(/so [1-9]\d* events in \d+ streams are lost/)
  await services.start()
  expect((await system.run(['run', '--', 'echo', 'accepted'])).stdout).toBe('accepted\n')
  expect((await system.history(stays)).map(({ type }) => type)).toContain('SandboxLost')
  expect((await system.run(['history', late])).code).not.toBe(0)
  expect(await system.run(['verify'])).toMatchObject({ code: 0 })
}, 200_000)

/** The host when it holds no sandbox; a worker that stops takes along what it keeps ready for the next. */
async function atRest(): Promise<string[]> {
  await until(async () => judgeHost(await takeInventory(system.system), new Set()).length === 0)
  await system.system.restart('worker-1')
  return takeInventory(system.system)
}

/** By the checker, which shares no code with what it judges: log, broker, spools and host. */
async function judge(before: string[], now: string[]): Promise<void> {
  const { dir } = system.system
  const db = openDatabase({ url: system.env.DATABASE_ADMIN_URL!, max: 4, name: 'checker' })
  const messaging = await connect({
    servers: system.env.NATS_URL!,
    name: 'checker',
    credentials: JSON.parse(readFileSync(join(dir, 'keys', 'platform.json'), 'utf8')),
  })
  try {
    const trail = {
      databaseUrl: system.env.DATABASE_ADMIN_URL!,
      trailFile: system.env.SANDTRAIL_TRAIL_FILE!,
      publicKey: readFileSync(system.env.SANDTRAIL_TRAIL_PUBLIC_KEY!, 'utf8').trim(),
    }
    const report = await check({ db, messaging, history: [], trail, host: { before, now }, drained: true })
    expect(report.findings).toEqual([])
    expect(report.published).toBe(report.events)
  } finally {
    await messaging.close()
    await db.end()
  }
}
