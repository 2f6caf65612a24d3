import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { PLATFORM_TENANT } from '#libs/domain'
import { findWorker, readStream } from '#libs/event-store'
import { commandHeaders, subjects } from '#libs/messaging'
import { startTestScheduler, type TestScheduler, type TestWorker } from './testing.js'

let scheduler: TestScheduler
let worker: TestWorker
beforeAll(async () => {
  scheduler = await startTestScheduler()
  worker = await scheduler.worker()
  await scheduler.image('base:latest', [worker.workerId])
})
afterAll(() => scheduler?.stop())

function tell(verb: string, body: object = {}, tenant = PLATFORM_TENANT, id: string = randomUUID()) {
  const headers = commandHeaders({
    commandId: id,
    expiresAt: new Date(Date.now() + 60_000),
    actor: 'token:ak-operator',
  })
  const subject = subjects.request(tenant, 'worker', verb)
  return scheduler.client.request(subject, { workerId: worker.workerId, ...body }, { headers })
}
const state = async () => (await findWorker(scheduler.db.pool, worker.workerId))?.state
const history = async () => (await readStream(scheduler.db.pool, worker.workerId)).map(({ type }) => type)
const running = async () => {
  const { sandboxId } = await scheduler.ask('create', {})
  await worker.order('create', String(sandboxId))
  await worker.report(String(sandboxId), [{ kind: 'sandbox-started', volumes: [] }])
  return String(sandboxId)
}
const end = (sandboxId: string) =>
  worker.report(sandboxId, [{ kind: 'sandbox-ended', ending: { kind: 'stopped' }, staged: [] }])

async function until(look: () => Promise<boolean>): Promise<void> {
  while (!(await look())) await new Promise((resolve) => setTimeout(resolve, 50))
}

test('a cordoned worker gets no new sandbox, keeps what it has, and says who wanted it so', async () => {
  const before = await running()
  await tell('cordon', { reason: 'new kernel' })
  expect(await state()).toBe('cordoned')
  await expect(scheduler.ask('create', {})).rejects.toMatchObject({ code: 'NO_CAPACITY' })
  // What runs there goes on, execs included, and a heartbeat does not take the cordon away.
  await scheduler.ask('exec', { sandboxId: before, argv: ['true'] })
  await worker.heartbeat()
  expect(await state()).toBe('cordoned')

  const [event] = await readStream(scheduler.db.pool, worker.workerId)
  expect(event).toMatchObject({
    tenant: PLATFORM_TENANT,
    type: 'WorkerCordoned',
    data: { reason: 'new kernel' },
    meta: { actor: 'token:ak-operator' },
  })
  await tell('uncordon')
  expect(await state()).toBe('active')
  await end(await running())
  await end(before)
}, 30_000)

test('a drain without a limit waits for what runs, and then says that it is done', async () => {
  const [first, second] = [await running(), await running()]
  await tell('drain')
  await end(first)
  await expect(scheduler.ask('create', {})).rejects.toMatchObject({ code: 'NO_CAPACITY' })
  expect(await history()).not.toContain('WorkerDrained')
  await end(second)
  await until(async () => (await history()).at(-1) === 'WorkerDrained')
  expect(await scheduler.types(second)).not.toContain('SandboxStopRequested')
  expect(await state()).toBe('cordoned')
  await tell('uncordon')
}, 30_000)

test('after its limit a drain ends what still runs, for the reason that it is one', async () => {
  const sandboxId = await running()
  await tell('drain', { timeoutMs: 0 })
  await worker.order('stop', sandboxId)
  const [asked] = (await scheduler.events(sandboxId)).filter(({ type }) => type === 'SandboxStopRequested')
  expect(asked).toMatchObject({
    tenant: 'acme',
    data: { reason: 'drain' },
    meta: { actor: 'system:scheduler' },
  })
  await end(sandboxId)
  await until(async () => (await history()).at(-1) === 'WorkerDrained')
  await tell('uncordon')
}, 30_000)

test('an uncordon ends a drain; the same command again has no second effect', async () => {
  const sandboxId = await running()
  await tell('drain', { timeoutMs: 600_000 })
  const id = randomUUID()
  await tell('uncordon', {}, PLATFORM_TENANT, id)
  await tell('drain', { timeoutMs: 600_000 })
  await tell('uncordon', {}, PLATFORM_TENANT, id)
  expect((await history()).at(-1)).toBe('WorkerDrainRequested')
  await tell('uncordon')
  const { rows } = await scheduler.db.pool.query("select key from timers where kind = 'worker-drain'")
  expect(rows).toEqual([])
  await end(sandboxId)
}, 30_000)

test('an unknown worker is refused, and a tenant reaches none of it on its own subjects', async () => {
  await expect(tell('cordon', { workerId: 'wk-00000000000000000000000000' })).rejects.toMatchObject({
    code: 'NOT_FOUND',
  })
  await expect(tell('cordon', {}, 'acme')).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  expect(await state()).toBe('active')
})
