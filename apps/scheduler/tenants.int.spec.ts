import { randomBytes, randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { makeId, PLATFORM_TENANT } from '#libs/domain'
import { createToken, findTenant, findToken, readAdministration, readStream } from '#libs/event-store'
import { commandHeaders, type JsonObject, subjects } from '#libs/messaging'
import { startTestScheduler, TENANT, type TestScheduler, type TestWorker } from './testing.js'

let scheduler: TestScheduler
let worker: TestWorker
beforeAll(async () => {
  scheduler = await startTestScheduler()
  worker = await scheduler.worker()
  await scheduler.image('base:latest', [worker.workerId], PLATFORM_TENANT)
})
afterAll(() => scheduler?.stop())

function tell(name: string, body: object, id: string = randomUUID()): Promise<JsonObject> {
  const [aggregate, verb] = name.split('.') as [string, string]
  const headers = commandHeaders({
    commandId: id,
    expiresAt: new Date(Date.now() + 60_000),
    actor: 'token:ak-operator',
  })
  return scheduler.client.request(subjects.request(PLATFORM_TENANT, aggregate, verb), body, { headers })
}
const standing = async (tenant: string) => (await findTenant(scheduler.db.pool, tenant))?.standing
const history = async (tenant: string) =>
  (await readAdministration(scheduler.db.pool, PLATFORM_TENANT, tenant)).map(({ type }) => type)
async function running(): Promise<string> {
  const { sandboxId } = await scheduler.ask('create', {})
  await worker.order('create', String(sandboxId))
  await worker.report(String(sandboxId), [{ kind: 'sandbox-started', volumes: [] }])
  return String(sandboxId)
}
async function until(look: () => Promise<boolean>): Promise<void> {
  while (!(await look())) await new Promise((resolve) => setTimeout(resolve, 50))
}
/** A command as the tenant's own token would send it: what it is refused for, or null. Its signal names no exec. */
const asked = () =>
  scheduler.client
    .request(
      subjects.request(TENANT, 'sandbox', 'signal'),
      { execId: makeId('ex', 1, randomBytes(10)), signal: 9 },
      {
        headers: commandHeaders({
          commandId: randomUUID(),
          expiresAt: new Date(Date.now() + 60_000),
          actor: 'token:ak-theirs',
        }),
      },
    )
    .then(
      () => null,
      (error) => error.code as string,
    )
const untilAsked = (code: string) => until(async () => (await asked()) === code)

test('a tenant is made once, with its limits, and changed; a re-send does nothing again', async () => {
  const id = randomUUID()
  const create = () => tell('tenant.create', { tenant: 'fresh', limits: { execs: 7 } }, id)
  expect(await create()).toEqual(await create())
  await expect(tell('tenant.create', { tenant: 'fresh', limits: {} })).rejects.toMatchObject({
    code: 'NAME_TAKEN',
  })
  expect((await findTenant(scheduler.db.pool, 'fresh'))?.limits).toMatchObject({ execs: 7, sandboxes: 1_000 })
  await tell('tenant.limit', { tenant: 'fresh', limits: { execs: null } })
  expect((await findTenant(scheduler.db.pool, 'fresh'))?.limits).toMatchObject({
    execs: null,
    sandboxes: 1_000,
  })
  expect(await history('fresh')).toEqual(['TenantCreated', 'TenantLimitsChanged'])
  const [event] = await readStream(scheduler.db.pool, 'tenant:fresh')
  expect(event).toMatchObject({ tenant: PLATFORM_TENANT, meta: { actor: 'token:ak-operator' } })
  await expect(tell('tenant.suspend', { tenant: 'nobody' })).rejects.toMatchObject({ code: 'NOT_FOUND' })
})

test('what a suspended tenant runs is kept, or ended when that is asked for; what it asks is refused', async () => {
  const kept = await running()
  await tell('tenant.suspend', { tenant: TENANT, reason: 'unpaid' })
  await untilAsked('TENANT_SUSPENDED')
  expect(await scheduler.types(kept)).not.toContain('SandboxStopRequested')
  await tell('tenant.resume', { tenant: TENANT })
  await untilAsked('EXEC_NOT_FOUND')

  await tell('tenant.suspend', { tenant: TENANT, sandboxes: 'end' })
  await worker.order('stop', kept)
  const stop = (await scheduler.events(kept)).find(({ type }) => type === 'SandboxStopRequested')
  expect(stop).toMatchObject({ data: { reason: 'tenant' }, meta: { actor: 'system:scheduler' } })
  await tell('tenant.resume', { tenant: TENANT })
  expect(await standing(TENANT)).toBe('active')
}, 60_000)

test('a tenant that has things is removed only by force: they end, its tokens end, its trail stays', async () => {
  const sandboxId = await running()
  const token = await createToken(scheduler.db.pool, { tenant: TENANT, name: 'ci' })
  await expect(tell('tenant.remove', { tenant: TENANT })).rejects.toMatchObject({ code: 'TENANT_IN_USE' })
  await tell('tenant.remove', { tenant: TENANT, force: true })
  expect(await standing(TENANT)).toBe('removing')
  await expect(
    tell('token.create', { tenant: TENANT, tokenId: newTokenId(), name: 'n', operator: false }),
  ).rejects.toMatchObject({ code: 'NOT_FOUND' })
  await worker.order('stop', sandboxId)
  for (const { sandbox_id: id } of (await scheduler.db.pool.query('select sandbox_id from live')).rows) {
    await worker.report(id, [{ kind: 'sandbox-ended', ending: { kind: 'stopped' }, staged: [] }])
  }
  await until(async () => (await standing(TENANT)) === 'removed')
  expect(await findToken(scheduler.db.pool, token.secret)).toBeNull()
  expect((await history(TENANT)).slice(-3)).toEqual([
    'TenantRemovalRequested',
    'TokenRevoked',
    'TenantRemoved',
  ])
  expect(await scheduler.types(sandboxId)).toContain('SandboxCreated')
  await expect(tell('tenant.create', { tenant: TENANT, limits: {} })).rejects.toMatchObject({
    code: 'NAME_TAKEN',
  })
}, 60_000)

const newTokenId = () => `ak-${randomBytes(12).toString('base64url')}`

test('a token is made and revoked once, and one that set-up made can be revoked', async () => {
  const token = { tenant: 'fresh', tokenId: newTokenId() }
  await tell('token.create', { ...token, name: 'ci', operator: false })
  await tell('token.revoke', token)
  await tell('token.revoke', token)
  const old = { tenant: 'fresh', tokenId: newTokenId() }
  await tell('token.revoke', old)
  expect((await history('fresh')).slice(-3)).toEqual(['TokenCreated', 'TokenRevoked', 'TokenRevoked'])
})
