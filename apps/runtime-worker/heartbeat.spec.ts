import { expect, test } from '@jest/globals'
import type { Heartbeat, Order } from '#libs/contract'
import { createLog } from '#libs/service'
import { HeartbeatLoop } from './heartbeat.js'

test('an order that hangs keeps back neither heartbeats nor other orders, and is not begun twice', async () => {
  const to = { tenant: 'acme', epoch: 1, reason: 'terminate' }
  const hanging: Order = { kind: 'stop', sandboxId: 'sb-01JTESTTESTTESTTESTTESTTE0', ...to }
  const other: Order = { kind: 'stop', sandboxId: 'sb-01JTESTTESTTESTTESTTESTTE1', ...to }
  const taken: unknown[] = []
  const beats = [Promise.withResolvers<void>(), Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  let count = 0
  const loop = new HeartbeatLoop({
    compose: async () => ({}) as Heartbeat,
    async send() {
      beats[count++]?.resolve()
      return { ok: true, orders: [hanging, other] }
    },
    take(order) {
      taken.push(order)
      return order === hanging ? new Promise(() => {}) : Promise.resolve()
    },
    log: createLog('test', 'fatal'),
  })
  loop.start()
  await beats[2]!.promise
  await loop.stop()
  expect(taken.filter((order) => order === hanging)).toHaveLength(1)
  expect(taken.filter((order) => order === other).length).toBeGreaterThan(1)
}, 30_000)
