/**
 * Data of each former release (test/upgrade/<release>, made by make-golden.mjs), taken over by this one: restored,
 * migrated, verified, folded to the same states, projected to the same rows, and gone on with.
 */

import { randomBytes } from 'node:crypto'
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import pg from 'pg'
import * as domain from '#libs/domain'
import {
  type Foldable,
  load,
  openDatabase,
  readStream,
  rebuildProjection,
  Sealer,
  sandboxesProjection,
  verifyTrail,
} from '#libs/event-store'
import { startTestScheduler, type TestScheduler } from '../../apps/scheduler/testing.js'
import { imagesProjection } from '../../apps/snapshotter/images-table.js'
import { snapshotsProjection } from '../../apps/snapshotter/snapshots-table.js'
import type { TestDatabase } from '../../libs/event-store/testing.js'
import { layoutOf } from '../../scripts/deploy/layout.mjs'
import { restore } from '../../scripts/deploy/restore.mjs'

const HERE = new URL('.', import.meta.url).pathname
const releases = readdirSync(HERE, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name)
const TENANT = 'default'
const AGGREGATES: Record<string, Foldable<unknown>> = {
  sb: domain.sandboxAggregate as Foldable<unknown>,
  ex: domain.execAggregate as Foldable<unknown>,
  im: domain.imageAggregate as Foldable<unknown>,
  sn: domain.snapshotAggregate as Foldable<unknown>,
  vo: domain.volumeAggregate as Foldable<unknown>,
  wk: domain.workerAggregate as Foldable<unknown>,
}
/** With the types that a release brings it gets another golden: then those that the older ones lack are named here. */
const TRANSITIONS = [
  ...domain.SANDBOX_TRANSITIONS,
  ...domain.EXEC_TRANSITIONS,
  ...domain.IMAGE_TRANSITIONS,
  ...domain.SNAPSHOT_TRANSITIONS,
  ...domain.VOLUME_TRANSITIONS,
]

const LATER = new Set(['SandboxTagged', 'SandboxNamed'])

test('there are former releases', () => expect(releases).not.toEqual([]))

describe.each(releases)('data of release %s', (release) => {
  const golden = join(HERE, release)
  const dir = mkdtempSync(join(tmpdir(), 'sandtrail-upgrade-'))
  const layout = layoutOf({ etc: dir, state: dir })
  let db: TestDatabase
  let scheduler: TestScheduler | undefined

  beforeAll(async () => {
    cpSync(join(golden, 'keys'), join(dir, 'keys'), { recursive: true })
    for (const name of readdirSync(join(dir, 'keys'))) chmodSync(layout.key(name), 0o600)
    mkdirSync(join(dir, 'trail'))
    // The file of the installation itself: it ends where the backup does, so nothing is lost.
    cpSync(join(golden, 'log', 'trail.jsonl'), layout.trailFile)
    db = await emptyDatabase()
    await restore(layout, db.url, join(golden, 'log'), join(golden, 'tenant-keys'))
  }, 60_000)
  afterAll(async () => {
    // Ends the database too, which it was given.
    if (scheduler) await scheduler.stop()
    else await db?.drop()
    rmSync(dir, { recursive: true })
  })

  const verify = async () => {
    const publicKey = readFileSync(layout.key('trail.vkey'), 'utf8').trim()
    return verifyTrail({ databaseUrl: db.url, trailFile: layout.trailFile, publicKey })
  }

  test('has events of every type of that time', async () => {
    const { rows } = await db.pool.query<{ type: string }>('select distinct type from events')
    const has = new Set(rows.map(({ type }) => type))
    const wanted = new Set([...TRANSITIONS.map(({ event }) => event), 'CommandRejected'])
    expect([...wanted].filter((type) => !(has.has(type) || LATER.has(type)))).toEqual([])
  })

  test('verifies after the migrations', async () => {
    expect(await verify()).toMatchObject({ ok: true, problems: [] })
  })

  test('every aggregate is folded to the state that the release itself saw', async () => {
    const states = JSON.parse(readFileSync(join(golden, 'states.json'), 'utf8'))
    const folded: Record<string, unknown> = {}
    for (const stream of Object.keys(states)) {
      const { state, version } = await load(db.pool, AGGREGATES[stream.slice(0, 2)]!, stream)
      folded[stream] = JSON.parse(JSON.stringify({ version, state }))
    }
    expect(folded).toEqual(states)
  })

  test('projections built again are the rows that it had', async () => {
    for (const projection of [sandboxesProjection, imagesProjection, snapshotsProjection]) {
      const [table = ''] = projection.tables
      const rows = async () => (await db.pool.query(`select * from ${table} order by 1`)).rows
      const before = await rows()
      expect(before).not.toEqual([])
      await rebuildProjection(db.pool, projection)
      expect(await rows()).toEqual(before)
    }
  })

  test('what was sealed is opened with its keys', async () => {
    const sandboxId = await runningSandbox()
    const [created] = await readStream(db.pool, sandboxId)
    const sealer = new Sealer(db.pool, masterKey())
    expect(await sealer.open(TENANT, sandboxId, created!.sealed!)).toMatchObject({
      env: { GREETING: 'sealed-value' },
    })
  })

  test('commands go on: a new sandbox, and the end of one that ran', async () => {
    const sandboxId = await runningSandbox()
    scheduler = await startTestScheduler(
      {
        SANDTRAIL_MASTER_KEY_FILE: masterKey(),
        SANDTRAIL_TRAIL_FILE: layout.trailFile,
        SANDTRAIL_TRAIL_KEY_FILE: layout.key('trail.key'),
        SANDTRAIL_TRAIL_ORIGIN: 'sandtrail',
      },
      { db, tenant: TENANT },
    )
    const worker = await scheduler.worker()
    await scheduler.image('after:1', [worker.workerId], TENANT)
    const created = await scheduler.ask('create', { image: 'after:1' })
    await scheduler.ask('terminate', { sandboxId })
    expect((await scheduler.types(sandboxId)).at(-1)).toBe('SandboxStopRequested')
    const events = await scheduler.events(String(created.sandboxId))
    // Until it is placed behind the positions of before.
    while ((await readStream(db.pool, sandboxId)).at(-1)?.position == null)
      await new Promise((resolve) => setTimeout(resolve, 50))
    expect(events.map(({ type }) => type)).toEqual(['SandboxCreated', 'SandboxPlaced'])
    expect(await verify()).toMatchObject({ ok: true, problems: [] })
  }, 60_000)

  const masterKey = () => Buffer.from(readFileSync(layout.key('master.key'), 'utf8'), 'base64')

  async function runningSandbox(): Promise<string> {
    const { rows } = await db.pool.query<{ sandbox_id: string }>(
      `select sandbox_id from sandboxes where name = 'runs'`,
    )
    return rows[0]!.sandbox_id
  }
})

async function emptyDatabase(): Promise<TestDatabase> {
  const server = process.env.SANDTRAIL_TEST_PG_URL!
  const name = `test_${randomBytes(6).toString('hex')}`
  await onServer(server, `create database ${name}`)
  const url = new URL(server)
  url.pathname = `/${name}`
  let pool: ReturnType<typeof openDatabase> | undefined
  return {
    url: url.href,
    // Opened when it is first used: a restore wants to be alone.
    get pool() {
      pool ??= openDatabase({ url: url.href, max: 20, name: 'test' })
      return pool
    },
    urlFor: () => url.href,
    async drop() {
      await pool?.end()
      await onServer(server, `drop database ${name} with (force)`)
    },
  }
}

async function onServer(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query(statement).finally(() => client.end())
}
