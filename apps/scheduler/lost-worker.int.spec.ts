import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { startTestScheduler, TENANT, type TestScheduler, type TestWorker } from './testing.js'

const GRACE_MS = 3_000
let scheduler: TestScheduler
let worker: TestWorker

beforeAll(async () => {
  scheduler = await startTestScheduler({ SANDTRAIL_LEASE_GRACE_MS: GRACE_MS })
  worker = await scheduler.worker()
  await scheduler.image('base:latest', [worker.workerId])
})
afterAll(() => scheduler?.stop())

async function until<T>(look: () => Promise<T | undefined | false>): Promise<T> {
  for (;;) {
    const found = await look()
    if (found) return found
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

test('a worker that stays silent loses its sandboxes and their execs, and tells the rest when it returns', async () => {
  const sandboxId = String((await scheduler.ask('create', {})).sandboxId)
  await worker.report(sandboxId, [{ kind: 'sandbox-started', volumes: [] }])
  const execId = String((await scheduler.ask('exec', { sandboxId, argv: ['sleep', '9'] })).execId)
  await worker.order('exec', sandboxId)

  await until(async () => (await scheduler.types(sandboxId)).includes('SandboxLost'))
  await until(async () => (await scheduler.types(execId)).includes('ExecLost'))
  const lost = (await scheduler.events(execId)).find(({ type }) => type === 'ExecLost')
  expect(lost?.data).toMatchObject({ mayHaveRun: true })

  // It comes back with the sandbox still there: it is told to end it, and what it staged is not lost.
  worker.sandboxes = [{ sandboxId: sandboxId as `sb-${string}`, tenant: TENANT, epoch: 1, state: 'running' }]
  expect(await worker.heartbeat()).toMatchObject([{ kind: 'stop', sandboxId, epoch: 1 }])
  const staged = [{ volumeId: 'vo-01ARZ3NDEKTSV4RRFFQ69G5FAV' as const, commitId: 'c1' }]
  const report = await worker.report(sandboxId, [
    { kind: 'sandbox-ended', ending: { kind: 'stopped' }, staged },
  ])
  expect(report).toMatchObject({ fenced: false })
  expect((await scheduler.events(sandboxId)).at(-1)).toMatchObject({
    type: 'SandboxEndReportedLate',
    data: { staged },
  })
}, 60_000)

test('a loss that a crash cut off after the worker itself was marked is brought to its end', async () => {
  await worker.heartbeat()
  const create = async () => String((await scheduler.ask('create', {})).sandboxId)
  const [first, second] = [await create(), await create()]
  await scheduler.db.pool.query(`update workers set state = 'lost' where worker_id = $1`, [worker.workerId])
  for (const sandboxId of [first, second])
    await until(async () => (await scheduler.types(sandboxId)).includes('SandboxLost'))
  const { rows } = await scheduler.db.pool.query('select from reservations')
  expect(rows).toEqual([])
  await worker.heartbeat()
}, 60_000)

test('a worker that keeps saying what it has loses nothing, however long that goes on', async () => {
  const sandboxId = String((await scheduler.ask('create', {})).sandboxId)
  await worker.report(sandboxId, [{ kind: 'sandbox-started', volumes: [] }])
  worker.sandboxes = [{ sandboxId: sandboxId as `sb-${string}`, tenant: TENANT, epoch: 1, state: 'running' }]
  const end = performance.now() + 2 * GRACE_MS
  await until(async () => {
    await worker.heartbeat()
    return performance.now() > end
  })
  expect(await scheduler.types(sandboxId)).toEqual(['SandboxCreated', 'SandboxPlaced', 'SandboxStarted'])
}, 60_000)
