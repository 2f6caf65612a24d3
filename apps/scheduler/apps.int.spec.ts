/** Apps: names, what ends them, and what ends with them. */

import { afterAll, beforeAll, expect, test } from '@jest/globals'
import type { FiredTimer } from '#libs/event-store'
import { endSilentApp } from './app-commands.js'
import { startTestScheduler, TENANT, type TestScheduler, type TestWorker } from './testing.js'

let scheduler: TestScheduler
let worker: TestWorker
beforeAll(async () => {
  scheduler = await startTestScheduler()
  worker = await scheduler.worker()
  await scheduler.image('base:latest', [worker.workerId])
})
afterAll(() => scheduler?.stop())

const createApp = async (body: object = {}) =>
  String((await scheduler.askApp('create', { kind: 'deployed', ...body })).appId)
const createSandbox = async (body: object = {}) => {
  await worker.heartbeat()
  return String((await scheduler.ask('create', body)).sandboxId)
}
const stoppedFor = async (appId: string) =>
  (await scheduler.events(appId)).filter(({ type }) => type === 'AppStopped').map(({ data }) => data.reason)

async function until(look: () => Promise<boolean>): Promise<void> {
  while (!(await look())) await new Promise((resolve) => setTimeout(resolve, 50))
}

async function timerOf(appId: string): Promise<(FiredTimer & { ms: number }) | undefined> {
  const { rows } = await scheduler.db.pool.query(
    `select key, generation, tenant, payload, extract(epoch from due - clock_timestamp())::double precision * 1000 as ms
     from timers where key = $1`,
    [`${appId}:heartbeat`],
  )
  return rows[0] && { ...rows[0], generation: BigInt(rows[0].generation), commandId: `timer-of-${appId}` }
}

test('a name is one running app of its environment, and free again after its stop', async () => {
  const web = { name: 'web', environment: 'main' }
  const appId = await createApp(web)
  await expect(createApp(web)).rejects.toMatchObject({ code: 'NAME_TAKEN' })
  await createApp({ ...web, environment: 'staging' })
  await scheduler.askApp('stop', { appId })
  await scheduler.askApp('stop', { appId, reason: 'client-disconnected' })
  expect(await stoppedFor(appId)).toEqual(['requested'])
  await createApp(web)
})

test('apps without a name are as many as are made, and an app that nobody made is not found', async () => {
  expect(await createApp()).not.toBe(await createApp())
  for (const verb of ['stop', 'heartbeat']) {
    const unknown = scheduler.askApp(verb, { appId: 'ap-01J00000000000000000000000' })
    await expect(unknown).rejects.toMatchObject({ code: 'APP_NOT_FOUND' })
  }
})

test('the sandboxes of a stopped app are ended, each once, others go on, and it takes no new one', async () => {
  const [appId, other] = [await createApp(), await createApp()]
  const [one, two, third] = [
    await createSandbox({ appId }),
    await createSandbox({ appId }),
    await createSandbox({ appId: other }),
  ]
  await worker.report(two, [{ kind: 'sandbox-started', volumes: [] }])
  await scheduler.askApp('stop', { appId })
  for (const sandboxId of [one, two]) {
    expect(await worker.order('stop', sandboxId)).toMatchObject({ reason: 'app-stopped' })
    const events = await scheduler.events(sandboxId)
    const stops = events.filter(({ type }) => type === 'SandboxStopRequested')
    const [stopped] = (await scheduler.events(appId)).slice(-1)
    expect(stops.map(({ meta, data }) => [meta.causationId, data.reason])).toEqual([
      [stopped!.eventId, 'app-stopped'],
    ])
  }
  await expect(createSandbox({ appId })).rejects.toMatchObject({ code: 'APP_STOPPED' })
  expect(await scheduler.types(third)).toEqual(['SandboxCreated', 'SandboxPlaced'])
})

test('a sandbox that is created while its app is stopped is refused, or ended with it', async () => {
  const appId = await createApp()
  const creating = Array.from({ length: 12 }, () => createSandbox({ appId, memoryBytes: 32 * 1024 ** 2 }))
  const [stopped, ...created] = await Promise.allSettled([scheduler.askApp('stop', { appId }), ...creating])
  expect(stopped.status).toBe('fulfilled')
  for (const each of created) {
    if (each.status === 'rejected') expect(each.reason).toMatchObject({ code: 'APP_STOPPED' })
    else await worker.order('stop', each.value)
  }
})

test('each beat of an ephemeral app moves its deadline, and leaves no event', async () => {
  const appId = await createApp({ kind: 'ephemeral' })
  const first = await timerOf(appId)
  expect(first!.ms).toBeGreaterThan(50_000)
  await scheduler.askApp('heartbeat', { appId })
  expect((await timerOf(appId))!.generation).toBeGreaterThan(first!.generation)
  expect(await scheduler.types(appId)).toEqual(['AppCreated'])
  const deployed = await createApp()
  await scheduler.askApp('heartbeat', { appId: deployed })
  expect(await timerOf(deployed)).toBeUndefined()
  await scheduler.askApp('stop', { appId, reason: 'client-disconnected' })
  expect(await timerOf(appId)).toBeUndefined()
  await expect(scheduler.askApp('heartbeat', { appId })).rejects.toMatchObject({ code: 'APP_STOPPED' })
})

test('an app whose beats stop is ended once the scheduler has heard none for the whole grace', async () => {
  const appId = await createApp({ kind: 'ephemeral' })
  const sandboxId = await createSandbox({ appId })
  const silent = (await timerOf(appId))!
  const deciding = { db: scheduler.db.pool, onCommitted: () => scheduler.client.nudge() }
  await endSilentApp(deciding, { ...silent, tenant: TENANT }, 60_000)
  await endSilentApp(deciding, { ...silent, tenant: TENANT }, 60_000)
  expect(await stoppedFor(appId)).toEqual(['heartbeat-lost'])
  expect(await timerOf(appId)).toBeUndefined()
  await worker.order('stop', sandboxId)
})

test('a scheduler that has not been hearing for long gives a new grace', async () => {
  const appId = await createApp({ kind: 'ephemeral' })
  const { generation } = (await timerOf(appId))!
  // Overdue, as after an outage of the scheduler; this one has started a moment ago.
  await scheduler.db.pool.query(`update timers set due = clock_timestamp() where key = $1`, [
    `${appId}:heartbeat`,
  ])
  await until(async () => (await timerOf(appId))!.generation > generation)
  expect((await timerOf(appId))!.ms).toBeGreaterThan(50_000)
  expect(await stoppedFor(appId)).toEqual([])
})
