import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { makeId } from '#libs/domain'
import { askWorker } from './ask.js'
import { TENANT, TestGround, type TestWorker } from './testing.js'

let ground: TestGround
let worker: TestWorker
beforeAll(async () => {
  ground = await TestGround.make()
  worker = await ground.worker()
})
afterAll(() => ground?.remove())

test('a caller that has waited long enough is let go, also while the worker owes its answer', async () => {
  worker.answer = () => new Promise(() => {})
  const task = { kind: 'remove-volume' as const, tenant: TENANT, volumeId: makeId('vo', 1, Buffer.alloc(10)) }
  const enough = new AbortController()
  const asked = askWorker<'remove-volume'>(ground.client, worker.workerId, task, {
    signal: enough.signal,
    patienceMs: 60_000,
  })
  while (worker.tasks.length === 0) await new Promise((resolve) => setTimeout(resolve, 10))
  enough.abort()
  await expect(asked).rejects.toMatchObject({
    code: 'DEADLINE_EXCEEDED',
    message: expect.stringContaining('still works on remove-volume'),
  })
})
