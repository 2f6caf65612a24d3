import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { PLATFORM_TENANT, TENANT_RATES_DEFAULT } from '#libs/domain'
import { append } from '../append.js'
import { createTestDatabase, type TestDatabase } from '../testing.js'
import { request, sandboxId } from '../testing-requests.js'
import { listLive } from './live.js'
import { ensureTenant, findTenant, findTenantRates, setTenantLimits } from './tenants.js'
import { createToken, findToken, listTokens, revokeToken } from './tokens.js'
import { cordonClaim, findWorker, listWorkers, loseWorker, upsertWorker } from './workers.js'

let db: TestDatabase
beforeAll(async () => {
  db = await createTestDatabase()
})
afterAll(() => db.drop())

const report = (workerId: string) => ({
  workerId,
  incarnation: 'a',
  capacity: { cpuMillis: 2000, memoryBytes: 8 * 1024 ** 3, diskBytes: 100 * 1024 ** 3 },
  poolFreeBytes: 1e11,
  info: { runtimes: ['gvisor'] },
})

test('a worker is registered, heard, lost, and active again when it comes back; its cordon stays', async () => {
  expect(await upsertWorker(db.pool, report('wk-1'))).toMatchObject({
    ...report('wk-1'),
    state: 'active',
    cpuFactor: 16,
    reserved: { cpuMillis: 0, memoryBytes: 0, diskBytes: 0 },
  })
  const { heartbeatAt } = (await findWorker(db.pool, 'wk-1'))!
  expect(await loseWorker(db.pool, 'wk-1', heartbeatAt)).toBe(true)
  expect(await loseWorker(db.pool, 'wk-1', heartbeatAt)).toBe(false)
  expect(await findWorker(db.pool, 'wk-1')).toMatchObject({ state: 'lost', cordoned: false })
  expect(await upsertWorker(db.pool, report('wk-1'))).toMatchObject({ state: 'active' })
  const claims = { take: [cordonClaim('wk-1')] }
  await append(db.pool, { ...request({ stream: 'wk-1', claims }), tenant: PLATFORM_TENANT })
  expect(await findWorker(db.pool, 'wk-1')).toMatchObject({ state: 'cordoned', cordoned: true })
  await loseWorker(db.pool, 'wk-1', new Date())
  expect(await findWorker(db.pool, 'wk-1')).toMatchObject({ state: 'lost', cordoned: true })
  expect(await upsertWorker(db.pool, report('wk-1'))).toMatchObject({ state: 'cordoned' })
})

test('a worker that was heard after the list was read is not lost', async () => {
  const { heartbeatAt } = await upsertWorker(db.pool, report('wk-heard'))
  await db.pool.query(
    `update workers set heartbeat_at = heartbeat_at + interval '5 milliseconds' where worker_id = 'wk-heard'`,
  )
  expect(await loseWorker(db.pool, 'wk-heard', heartbeatAt)).toBe(false)
  expect(await findWorker(db.pool, 'wk-heard')).toMatchObject({ state: 'active' })
})

test('the age of a heartbeat is counted by the database', async () => {
  await upsertWorker(db.pool, report('wk-old'))
  await db.pool.query(
    `update workers set heartbeat_at = heartbeat_at - interval '1 minute' where worker_id = 'wk-old'`,
  )
  const old = (await listWorkers(db.pool)).find((worker) => worker.workerId === 'wk-old')
  expect(old?.heartbeatAgeMs).toBeGreaterThanOrEqual(60_000)
  expect(old?.heartbeatAgeMs).toBeLessThan(70_000)
})

test('a reservation and a live row show where a sandbox is', async () => {
  await upsertWorker(db.pool, report('wk-2'))
  const id = sandboxId()
  const resources = { cpuMillis: 125, memoryBytes: 128 * 1024 ** 2, diskBytes: 1024 ** 3 }
  await append(
    db.pool,
    request({
      stream: id,
      live: { action: 'open', sandboxId: id, workerId: 'wk-2', epoch: 1 },
      reservation: { action: 'take', sandboxId: id, workerId: 'wk-2', resources },
    }),
  )
  const live = { sandboxId: id, tenant: 'acme', workerId: 'wk-2', epoch: 1, state: 'open' }
  expect(await listLive(db.pool, 'wk-2')).toEqual([live])
  expect(await findWorker(db.pool, 'wk-2')).toMatchObject({ reserved: resources })
  expect(await findTenant(db.pool, 'acme')).toMatchObject({ used: { sandboxes: 1, ...resources } })
})

test('limits are set one by one, and null takes one away', async () => {
  expect(await setTenantLimits(db.pool, 'limited', { sandboxes: 2 })).toBe(false)
  expect(await ensureTenant(db.pool, 'limited')).toBe(true)
  expect(await ensureTenant(db.pool, 'limited')).toBe(false)
  await setTenantLimits(db.pool, 'limited', { sandboxes: 2, memoryBytes: 1024 ** 4, commandsPerSecond: 7 })
  await setTenantLimits(db.pool, 'limited', { sandboxes: null, execs: 3, natsConnections: 5 })
  expect(await findTenant(db.pool, 'limited')).toMatchObject({
    limits: { sandboxes: null, execs: 3, memoryBytes: 1024 ** 4, commandsPerSecond: 7, natsConnections: 5 },
  })
  expect(await findTenantRates(db.pool, 'limited')).toEqual({
    commandsPerSecond: 7,
    commandsBurst: TENANT_RATES_DEFAULT.commandsBurst,
    requestsPerSecond: TENANT_RATES_DEFAULT.requestsPerSecond,
    requestsBurst: TENANT_RATES_DEFAULT.requestsBurst,
  })
  expect(await findTenantRates(db.pool, 'nobody')).toBeNull()
})

test('the defaults of the table are those of the code', async () => {
  await ensureTenant(db.pool, 'fresh')
  expect(await findTenantRates(db.pool, 'fresh')).toEqual(TENANT_RATES_DEFAULT)
})

test('a token is found by its secret until it is revoked; the database never has the secret', async () => {
  const { id, secret } = await createToken(db.pool, { tenant: 'acme', name: 'ci' })
  expect(await findToken(db.pool, secret)).toMatchObject({ id, tenant: 'acme', name: 'ci', revokedAt: null })
  expect(await findToken(db.pool, secret, id)).toMatchObject({ id })
  expect(await findToken(db.pool, secret, 'ak-other')).toBeNull()
  expect(await findToken(db.pool, `${secret}x`)).toBeNull()
  const { rows } = await db.pool.query('select tokens::text as row from tokens')
  expect(JSON.stringify(rows)).not.toContain(secret)

  expect(await revokeToken(db.pool, 'umbrella', id)).toBe(false)
  expect(await revokeToken(db.pool, 'acme', id)).toBe(true)
  expect(await findToken(db.pool, secret)).toBeNull()
  expect(await listTokens(db.pool, 'acme')).toMatchObject([{ id, revokedAt: expect.any(Date) }])
})
