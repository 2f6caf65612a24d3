import { afterAll, beforeAll, expect, test } from '@jest/globals'
import {
  append,
  ensureTenant,
  listRefusals,
  purgeRefusals,
  setTenantLimits,
  standingClaim,
} from '#libs/event-store'
import { createTestDatabase, type TestDatabase } from '../event-store/testing.js'
import { request } from '../event-store/testing-requests.js'
import { RefusalLog, TenantGate } from './index.js'

let db: TestDatabase
const log = { warn: () => {} }
beforeAll(async () => {
  db = await createTestDatabase()
})
afterAll(() => db.drop())

const caller = (tenant: string) => ({ tenant, actor: `token:ak-${tenant}`, action: 'sandbox.create' })
const stay = () => {}
const outcomes = async (gate: TenantGate, tenant: string, times: number) => {
  const tries = await Promise.allSettled(
    Array.from({ length: times }, () => gate.admit('commands', caller(tenant))),
  )
  return tries.map((one) => (one.status === 'fulfilled' ? 'ok' : one.reason))
}

test('a tenant over its rate is told when to come back, and another one is not held up', async () => {
  for (const tenant of ['noisy', 'calm']) {
    await ensureTenant(db.pool, tenant)
    await setTenantLimits(db.pool, tenant, { commandsPerSecond: 1, commandsBurst: 5 })
  }
  const gate = new TenantGate(db.pool, 'test', log)
  const noisy = await outcomes(gate, 'noisy', 50)
  const refused = noisy.filter((one) => one !== 'ok')
  expect(noisy.length - refused.length).toBeLessThan(10)
  expect(refused[0]).toMatchObject({
    code: 'RESOURCE_EXHAUSTED',
    message: 'the tenant may send 1 commands a second, 5 at once',
    retryable: true,
  })
  expect(refused[0].retryAfterMs).toBeGreaterThan(0)
  expect(refused[0].retryAfterMs).toBeLessThanOrEqual(1_000)
  expect(await outcomes(gate, 'calm', 5)).toEqual(Array(5).fill('ok'))
  expect(await outcomes(gate, 'nobody-has-set-any', 100)).toEqual(Array(100).fill('ok'))

  await gate.stop()
  const [row, ...more] = await listRefusals(db.pool, { tenant: 'noisy', since: null, limit: 10 })
  expect(more).toEqual([])
  expect(row).toMatchObject({ ...caller('noisy'), code: 'RESOURCE_EXHAUSTED', detail: 'commands' })
  expect(row!.count).toBe(refused.length)
})

test('without a rate nothing is counted', async () => {
  await ensureTenant(db.pool, 'free')
  await setTenantLimits(db.pool, 'free', { commandsPerSecond: null, commandsBurst: 1 })
  expect(await outcomes(new TenantGate(db.pool, 'test', log), 'free', 200)).toEqual(Array(200).fill('ok'))
})

test('a tenant has so many calls open and no more, and a place is free again when one ends', async () => {
  const gate = new TenantGate(db.pool, 'open', log, 2)
  const [first] = [gate.hold(caller('holder'), stay), gate.hold(caller('holder'), stay)]
  expect(() => gate.hold(caller('holder'), stay)).toThrow('2 requests open')
  gate.hold(caller('another'), stay)
  first!()
  gate.hold(caller('holder'), stay)
  expect(() => gate.hold(caller('holder'), stay)).toThrow('2 requests open')
  await gate.stop()
  const [row] = await listRefusals(db.pool, { tenant: 'holder', since: null, limit: 10 })
  expect(row).toMatchObject({ code: 'RESOURCE_EXHAUSTED', detail: 'open', count: 2 })
})

test('a suspended tenant is refused and counted, and what it has open is cut; what the services do for it goes on', async () => {
  const gate = new TenantGate(db.pool, 'suspended', log)
  await gate.start()
  const cut = Promise.withResolvers<void>()
  gate.hold(caller('frozen'), cut.resolve)
  gate.hold(caller('warm'), () => cut.reject(new Error('the wrong tenant was cut')))
  const claims = { take: [standingClaim('suspended', 'frozen')] }
  await append(db.pool, request({ tenant: 'platform', claims }))
  await cut.promise
  await expect(gate.admit('commands', caller('frozen'))).rejects.toMatchObject({ code: 'TENANT_SUSPENDED' })
  await expect(gate.admit('requests', caller('frozen'))).rejects.toMatchObject({ code: 'TENANT_SUSPENDED' })
  await gate.admit('commands', { ...caller('frozen'), actor: 'system:scheduler' })
  await gate.admit('commands', caller('warm'))

  // Another process knows it from its start on.
  const another = new TenantGate(db.pool, 'suspended', log)
  await another.start()
  await expect(another.admit('commands', caller('frozen'))).rejects.toMatchObject({
    code: 'TENANT_SUSPENDED',
  })
  await Promise.all([gate.stop(), another.stop()])
  const rows = await listRefusals(db.pool, { tenant: 'frozen', since: null, limit: 10 })
  expect(rows.map(({ code, count }) => ({ code, count }))).toEqual([{ code: 'TENANT_SUSPENDED', count: 3 }])
}, 30_000)

test('a flood of different callers is a bounded number of rows that tell every call', async () => {
  const refusals = new RefusalLog(db.pool, 'flood', log)
  const add = (n: number) =>
    refusals.add({
      tenant: null,
      actor: `token:${n}`,
      code: 'UNAUTHENTICATED',
      action: 'GET /v1/x',
      detail: null,
    })
  for (let n = 0; n < 5_000; n++) add(n)
  await refusals.stop()
  const { rows } = await db.pool.query(
    `select count(*)::integer as rows, sum(count)::integer as calls from refusals where service = 'flood'`,
  )
  expect(rows).toEqual([{ rows: 1_001, calls: 5_000 }])
})

test('counts that could not be written are kept, and not counted twice', async () => {
  let isAway = true
  const flaky = {
    query: (...args: unknown[]) =>
      isAway ? Promise.reject(new Error('away')) : (db.pool.query as (...all: unknown[]) => unknown)(...args),
  }
  const refusals = new RefusalLog(flaky as never, 'flaky', log)
  const refused = { tenant: 'acme', actor: null, code: 'X', action: 'a', detail: null }
  refusals.add(refused)
  await refusals.flush()
  refusals.add(refused)
  isAway = false
  await refusals.stop()
  const { rows } = await db.pool.query(`select count from refusals where service = 'flaky'`)
  expect(rows).toEqual([{ count: 2 }])
})

test('nobody changes a refusal, and it goes only when it is old', async () => {
  await expect(db.pool.query('update refusals set count = 1')).rejects.toMatchObject({ code: '42501' })
  await expect(db.pool.query('delete from refusals')).rejects.toMatchObject({ code: '42501' })
  await expect(db.pool.query('truncate refusals')).rejects.toMatchObject({ code: '42501' })
  expect(await purgeRefusals(db.pool)).toBe(0)
  await db.pool.query(
    `insert into refusals (service, code, action, count, first_at, last_at, at)
     values ('old', 'X', 'a', 1, now(), now(), now() - interval '91 days')`,
  )
  expect(await purgeRefusals(db.pool)).toBe(1)
})
