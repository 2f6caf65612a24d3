import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { SANDBOX_LIMITS, type SandboxEvent, type SandboxSpec } from '#libs/domain'
import { append } from '../append.js'
import { Projector, rebuildProjection } from '../projection.js'
import { createTestDatabase, type TestDatabase } from '../testing.js'
import { placeAll } from '../testing-ledger.js'
import { request, sandboxId } from '../testing-requests.js'
import type { JsonObject, NewEvent } from '../types.js'
import { listSandboxes, sandboxesProjection } from './sandboxes.js'

let db: TestDatabase
beforeAll(async () => {
  db = await createTestDatabase()
})
afterAll(() => db.drop())

const spec = (changes: Partial<SandboxSpec> = {}): SandboxSpec => ({
  runtime: 'gvisor',
  image: { imageId: 'im-00000000000000000000000000', ref: 'base' },
  command: null,
  workdir: null,
  user: null,
  envNames: [],
  resources: { cpuMillis: 125, memoryBytes: 1, diskBytes: 1 },
  cpuLimitMillis: null,
  diskLimitBytes: SANDBOX_LIMITS.diskLimitBytesDefault,
  timeoutMs: 300_000,
  idleTimeoutMs: null,
  network: 'none',
  volumes: [],
  name: null,
  tags: {},
  ...changes,
})
const created = (changes?: Partial<SandboxSpec>): SandboxEvent => ({
  type: 'SandboxCreated',
  typeVersion: 1,
  data: { spec: spec(changes) },
})
const placed: SandboxEvent = {
  type: 'SandboxPlaced',
  typeVersion: 1,
  data: { workerId: 'wk-1', epoch: 1, startDeadlineMs: 1 },
}
const started: SandboxEvent = {
  type: 'SandboxStarted',
  typeVersion: 1,
  data: { workerId: 'wk-1', epoch: 1, volumes: [] },
}
const stopRequested: SandboxEvent = {
  type: 'SandboxStopRequested',
  typeVersion: 1,
  data: { reason: 'terminate', deadlineMs: 1 },
}
const tagged: SandboxEvent = { type: 'SandboxTagged', typeVersion: 1, data: { tags: { of: 'later' } } }
const named: SandboxEvent = { type: 'SandboxNamed', typeVersion: 1, data: { name: 'late' } }
const finished = (exitCode: number): SandboxEvent => ({
  type: 'SandboxFinished',
  typeVersion: 1,
  data: { exitCode, signal: null, staged: [] },
})
const lost: SandboxEvent = { type: 'SandboxLost', typeVersion: 1, data: { reason: 'worker gone' } }

async function sandbox(events: SandboxEvent[], tenant = 'acme'): Promise<string> {
  const stream = sandboxId()
  const given = events.map((event) => ({ ...event, data: event.data as unknown as JsonObject }))
  await append(db.pool, request({ tenant, writes: [{ stream, expectedVersion: 0, events: given }] }))
  return stream
}

async function project(): Promise<void> {
  await placeAll(db.pool)
  const projector = new Projector(db.pool, sandboxesProjection)
  projector.start()
  for (;;) {
    const { rows } = await db.pool.query(
      `select 1 from projections where name = 'sandboxes' and position = (select max(position) from ledger)`,
    )
    if (rows.length === 1) break
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  await projector.stop()
}

test('events that come one by one give the rows that they give together', async () => {
  const lives: SandboxEvent[][] = [
    [created({ name: 'web', tags: { app: 'a' } }), placed, started, stopRequested, finished(3)],
    [created(), placed, stopRequested, started],
    [created(), placed, started, lost],
    [created({ tags: { first: 'yes' } }), placed, tagged, named, stopRequested, tagged, started, named],
    [created(), placed, stopRequested, tagged, started, finished(0), tagged],
  ]
  const rows = async () => (await db.pool.query('select * from sandboxes order by created_at')).rows
  for (const [first, ...later] of lives) {
    const stream = await sandbox([first!], 'slow')
    for (const [i, event] of later.entries()) {
      await project()
      const writes = [{ stream, expectedVersion: i + 1, events: [event as unknown as NewEvent] }]
      await append(db.pool, request({ tenant: 'slow', writes }))
    }
  }
  await project()
  const oneByOne = await rows()
  expect(oneByOne.map(({ state }) => state)).toEqual(['ended', 'stopping', 'ended', 'stopping', 'ended'])
  expect(oneByOne[3]).toMatchObject({ name: 'late', tags: { of: 'later' } })
  await rebuildProjection(db.pool, sandboxesProjection)
  expect(await rows()).toEqual(oneByOne)
})

test('each event moves the row to its next state', async () => {
  const starting = await sandbox([created({ name: 'web', tags: { app: 'a' } }), placed])
  const running = await sandbox([created(), placed, started])
  const stopping = await sandbox([created(), placed, started, stopRequested])
  const overtaken = await sandbox([created(), placed, stopRequested, started])
  const ended = await sandbox([created(), placed, started, finished(3)])
  const gone = await sandbox([created(), placed, lost])
  await project()

  const { sandboxes, nextCursor } = await listSandboxes(db.pool, { tenant: 'acme' })
  const byId = new Map(sandboxes.map((row) => [row.sandboxId, row]))
  expect(nextCursor).toBeNull()
  expect(byId.get(starting)).toMatchObject({
    state: 'starting',
    name: 'web',
    tags: { app: 'a' },
    image: 'base',
    workerId: 'wk-1',
    epoch: 1,
    startedAt: null,
  })
  expect(byId.get(running)).toMatchObject({ state: 'running', startedAt: expect.any(Date), endedAt: null })
  expect(byId.get(stopping)).toMatchObject({ state: 'stopping' })
  expect(byId.get(overtaken)).toMatchObject({ state: 'stopping', startedAt: expect.any(Date) })
  expect(byId.get(ended)).toMatchObject({
    state: 'ended',
    exitCode: 3,
    terminalEvent: 'SandboxFinished',
    reason: null,
  })
  expect(byId.get(gone)).toMatchObject({ state: 'ended', exitCode: null, reason: 'worker gone' })
})

test('the list filters by state, tags and name, pages newest first, and shows no other tenant', async () => {
  const tenant = 'pages'
  const ids: string[] = []
  for (let i = 0; i < 5; i++) {
    ids.push(
      await sandbox(
        [created({ name: `n${i}`, tags: { even: String(i % 2 === 0), i: `${i}` } }), placed],
        tenant,
      ),
    )
  }
  await sandbox([created({ name: 'n0' }), placed], 'other')
  await project()
  const newest = [...ids].sort().reverse()
  const list = async (filter: object) => {
    const { sandboxes, nextCursor } = await listSandboxes(db.pool, { tenant, ...filter })
    return { ids: sandboxes.map((row) => row.sandboxId), nextCursor }
  }
  expect(await list({ limit: 2 })).toEqual({ ids: newest.slice(0, 2), nextCursor: newest[1] })
  expect(await list({ limit: 3, cursor: newest[1] })).toEqual({ ids: newest.slice(2), nextCursor: null })
  expect((await list({ tags: { even: 'true' } })).ids).toHaveLength(3)
  expect((await list({ tags: { even: 'true', i: '2' } })).ids).toEqual([ids[2]])
  expect((await list({ name: 'n0' })).ids).toEqual([ids[0]])
  expect((await list({ states: ['running', 'ended'] })).ids).toEqual([])
  const appId = 'ap-00000000000000000000000000' as const
  const inApp = await sandbox([created({ appId }), placed], tenant)
  await project()
  expect((await list({ appId })).ids).toEqual([inApp])
  expect((await listSandboxes(db.pool, { tenant, limit: 1 })).sandboxes).toMatchObject([{ appId }])
  expect((await listSandboxes(db.pool, { tenant: 'other', appId })).sandboxes).toEqual([])
})

test('a rebuild gives the same rows, whatever became of the table', async () => {
  const rows = async () => (await db.pool.query('select * from sandboxes order by sandbox_id')).rows
  const before = await rows()
  await db.pool.query(
    `update sandboxes set state = 'ended', tags = '{}'; delete from sandboxes where name = 'n0'`,
  )
  await rebuildProjection(db.pool, sandboxesProjection)
  expect(await rows()).toEqual(before)
})
