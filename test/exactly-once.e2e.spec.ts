import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { newCommand, TestSystem } from './system.js'

let system: TestSystem
beforeAll(async () => {
  system = await TestSystem.start({ schedulers: 2, workers: 2 })
}, 180_000)
afterAll(() => system?.stop(), 60_000)

test('the same command, sent ten times at once and again after a restart of everything, has one effect', async () => {
  const id = randomUUID()
  const headers = newCommand(id)
  const body = { tags: { test: 'once' } }
  const nats = await system.nats()
  const ask = () => nats.request('req.sandbox.create', body, { headers, timeoutMs: 20_000 })
  const first = await Promise.all(Array.from({ length: 10 }, ask))
  expect(new Set(first.map(({ sandboxId }) => sandboxId)).size).toBe(1)

  const names = system.system.services().map(({ name }) => name)
  await Promise.all(names.map((name) => system.system.kill(name, 'SIGKILL')))
  const order = ['postgres', 'nats', ...names.filter((name) => name !== 'postgres' && name !== 'nats')]
  for (const name of order) await system.system.start(name)

  expect(await ask()).toEqual(first[0])
  await nats.close()
  const sandboxes = await system.json<{ sandboxId: string }[]>('ps', '--all', '--tag', 'test=once')
  expect(sandboxes).toHaveLength(1)
  await system.ok('rm', String(first[0]!.sandboxId))
  expect(await system.run(['verify'])).toMatchObject({ code: 0 })
}, 240_000)

test('sandboxes are spread over both workers, and a full one is passed over', async () => {
  const ids = await Promise.all(Array.from({ length: 4 }, () => system.ok('create', '--memory', '256m')))
  const workers = await Promise.all(
    ids.map(
      async (id) => (await system.history(id)).find(({ type }) => type === 'SandboxPlaced')?.data.workerId,
    ),
  )
  expect(new Set(workers).size).toBe(2)
  await Promise.all(ids.map((id) => system.ok('rm', id)))
}, 120_000)

test('kill -9 of one scheduler of two stops nothing', async () => {
  await system.system.kill('scheduler-1', 'SIGKILL')
  expect((await system.run(['run', '--', 'true'])).code).toBe(0)
  await system.system.start('scheduler-1')
  await system.system.kill('scheduler-2', 'SIGKILL')
  expect((await system.run(['run', '--', 'true'])).code).toBe(0)
  await system.system.start('scheduler-2')
  expect(await system.run(['verify'])).toMatchObject({ code: 0 })
}, 180_000)
