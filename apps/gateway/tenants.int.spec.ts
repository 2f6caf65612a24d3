/** Who may administer, what limits a tenant, and what is kept of what was refused. */

import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { createToken, listRefusals, revokeToken } from '#libs/event-store'
import { ROUTES } from './http/openapi.js'
import { type Answer, startTestGateway, type TestGateway } from './testing.js'
import { formatToken } from './token.js'

let gateway: TestGateway
let operator: { authorization: string }
beforeAll(async () => {
  gateway = await startTestGateway()
  operator = { authorization: `Bearer ${await gateway.operatorsToken()}` }
}, 60_000)
afterAll(() => gateway?.stop())

const asOperator = (method: string, path: string, body?: object): Promise<Answer> =>
  gateway.ask(method, path, body, operator)

/** Written a few seconds after the fact. */
async function refusals(tenant: string | null, code: string) {
  for (;;) {
    const found = (await listRefusals(gateway.db.pool, { tenant, since: null, limit: 1_000 })).filter(
      (each) => each.code === code,
    )
    if (found.length > 0) return found
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

describe('an operator', () => {
  test('makes a tenant with limits, and a token that works at once', async () => {
    const made = await asOperator('POST', '/v1/tenants', { tenant: 'fresh', execs: 7, cpuMillis: 4_000 })
    expect(made).toMatchObject({
      status: 201,
      body: {
        tenant: 'fresh',
        limits: { sandboxes: 1_000, execs: 7, cpuMillis: 4_000, memoryBytes: null, commandsPerSecond: 500 },
        used: { sandboxes: 0, execs: 0 },
      },
    })
    const { body } = await asOperator('POST', '/v1/tenants/fresh/tokens', { name: 'first' })
    const theirs = { authorization: `Bearer ${body.token}` }
    expect((await gateway.ask('GET', '/v1/whoami', undefined, theirs)).body).toMatchObject({
      tenant: 'fresh',
      operator: false,
    })
    expect((await gateway.ask('GET', '/v1/tenant', undefined, theirs)).body).toEqual(made.body)
    expect((await asOperator('GET', '/v1/tenants')).body.tenants).toContainEqual(made.body)
  })

  test('changes one limit and takes another away, and the rest stays', async () => {
    await asOperator('POST', '/v1/tenants', { tenant: 'changed', execs: 7, memoryBytes: 2 ** 40 })
    expect(await asOperator('PATCH', '/v1/tenants/changed', { execs: 8, memoryBytes: null })).toMatchObject({
      status: 200,
      body: { limits: { execs: 8, memoryBytes: null, sandboxes: 1_000 } },
    })
  })

  test("sees a tenant's tokens and revokes one at once", async () => {
    await asOperator('POST', '/v1/tenants', { tenant: 'breached' })
    const { id, token } = (await asOperator('POST', '/v1/tenants/breached/tokens', { name: 'lost' })).body
    const theirs = { authorization: `Bearer ${token}` }
    expect((await gateway.ask('GET', '/v1/whoami', undefined, theirs)).status).toBe(200)
    const { tokens } = (await asOperator('GET', '/v1/tenants/breached/tokens')).body
    expect(tokens).toMatchObject([{ id, name: 'lost', revokedAt: null }])
    // A token is of the tenant that is named.
    expect((await asOperator('DELETE', `/v1/tenants/acme/tokens/${id}`)).status).toBe(404)
    expect((await asOperator('DELETE', `/v1/tenants/breached/tokens/${id}`)).status).toBe(200)
    expect((await gateway.ask('GET', '/v1/whoami', undefined, theirs)).status).toBe(401)
  })

  test('suspends a tenant at once, and resumes it; the trail of the tenant says who, and of which tokens', async () => {
    await asOperator('POST', '/v1/tenants', { tenant: 'paused', execs: 3 })
    const { id, token } = (await asOperator('POST', '/v1/tenants/paused/tokens', { name: 'ci' })).body
    const theirs = { authorization: `Bearer ${token}` }
    const suspended = await asOperator('POST', '/v1/tenants/paused/suspend', { reason: 'unpaid' })
    expect(suspended).toMatchObject({ status: 200, body: { tenant: 'paused', state: 'suspended' } })
    expect(await gateway.ask('GET', '/v1/whoami', undefined, theirs)).toMatchObject({
      status: 403,
      body: { error: { code: 'TENANT_SUSPENDED', retryable: false } },
    })
    expect(await refusals('paused', 'TENANT_SUSPENDED')).toMatchObject([
      { actor: `token:${id}`, action: 'GET /v1/whoami', count: 1 },
    ])
    await asOperator('POST', '/v1/tenants/paused/resume')
    // As soon as the gateway has looked again.
    while ((await gateway.ask('GET', '/v1/whoami', undefined, theirs)).status !== 200);
    await asOperator('DELETE', `/v1/tenants/paused/tokens/${id}`)

    const { body } = await asOperator('GET', '/v1/tenants/paused/history')
    const told = body.events.map(({ type, data }: { type: string; data: object }) => ({ type, data }))
    expect(told).toMatchObject([
      { type: 'TenantCreated', data: { tenant: 'paused' } },
      { type: 'TokenCreated', data: { tenant: 'paused', tokenId: id, name: 'ci', operator: false } },
      { type: 'TenantSuspended', data: { reason: 'unpaid', sandboxes: 'keep' } },
      { type: 'TenantResumed' },
      { type: 'TokenRevoked', data: { tokenId: id } },
    ])
    const who = (await gateway.ask('GET', '/v1/whoami', undefined, operator)).body.tokenId
    for (const { actor } of body.events) expect(actor).toBe(`token:${who}`)
    const [, secret] = token.split(`${id}_`)
    expect(secret).toHaveLength(35)
    const { rows } = await gateway.db.pool.query('select data::text || meta::text as event from events')
    expect(JSON.stringify(rows)).not.toContain(secret)
  }, 30_000)

  test('cannot suspend or remove the tenant of the token itself', async () => {
    for (const verb of ['suspend', 'remove']) {
      expect(await asOperator('POST', `/v1/tenants/acme/${verb}`)).toMatchObject({
        status: 400,
        body: { error: { code: 'INVALID_ARGUMENT' } },
      })
    }
  })

  test.each([
    ['a name that is there', 'POST', '/v1/tenants', { tenant: 'twice' }, 409, 'NAME_TAKEN'],
    [
      'a name that is no token of a subject',
      'POST',
      '/v1/tenants',
      { tenant: 'a.b' },
      400,
      'INVALID_ARGUMENT',
    ],
    ["the platform's name", 'POST', '/v1/tenants', { tenant: 'platform' }, 400, 'INVALID_ARGUMENT'],
    [
      'a rate of nothing',
      'POST',
      '/v1/tenants',
      { tenant: 'x', commandsPerSecond: 0 },
      400,
      'INVALID_ARGUMENT',
    ],
    ['a misspelt limit', 'PATCH', '/v1/tenants/twice', { sandboxs: 1 }, 400, 'INVALID_ARGUMENT'],
    ['an unknown tenant', 'GET', '/v1/tenants/nobody', undefined, 404, 'NOT_FOUND'],
    ["an unknown tenant's token", 'POST', '/v1/tenants/nobody/tokens', { name: 'n' }, 404, 'NOT_FOUND'],
  ])('%s is refused with a code', async (_, method, path, body, status, code) => {
    await asOperator('POST', '/v1/tenants', { tenant: 'twice' })
    expect(await asOperator(method, path, body)).toMatchObject({ status, body: { error: { code } } })
  })

  test("makes another operator's token, which a plain token cannot", async () => {
    const body = { name: 'second', operator: true }
    expect(await gateway.ask('POST', '/v1/tokens', body)).toMatchObject({ status: 403 })
    const made = (await asOperator('POST', '/v1/tokens', body)).body
    const second = { authorization: `Bearer ${made.token}` }
    expect((await gateway.ask('GET', '/v1/tenants', undefined, second)).status).toBe(200)
  })
})

const operatorsRoutes = Object.entries(ROUTES).filter(([, route]) => route.operator)
test.each(operatorsRoutes)('%s is refused to a plain token, before its body is looked at', async (key) => {
  const [method, path] = key.split(' ') as [string, string]
  const answers = ['acme', 'nobody-at-all', '1'].map((name) =>
    gateway.ask(method, path.replaceAll(/\{\w+\}/g, name), method === 'GET' ? undefined : { misspelt: 1 }),
  )
  for (const answer of await Promise.all(answers)) {
    expect(answer).toMatchObject({ status: 403, body: { error: { code: 'PERMISSION_DENIED' } } })
  }
})

test.each([
  ['importing an image for all', 'POST', '/v1/images?name=x:1&shared=1'],
  ['removing an image of all', 'DELETE', '/v1/images/base:latest?shared=1'],
  ["everybody's refusals", 'GET', '/v1/refusals?all=1'],
])('%s is the operators’', async (_, method, path) => {
  expect(await gateway.ask(method, path)).toMatchObject({
    status: 403,
    body: { error: { code: 'PERMISSION_DENIED' } },
  })
})

describe('a rate of requests', () => {
  test('answers 429 with Retry-After to its tenant alone', async () => {
    await asOperator('POST', '/v1/tenants', { tenant: 'slow', requestsPerSecond: 1, requestsBurst: 3 })
    const { token } = (await asOperator('POST', '/v1/tenants/slow/tokens', { name: 'n' })).body
    const ask = () =>
      fetch(new URL('/v1/whoami', gateway.url), { headers: { authorization: `Bearer ${token}` } })
    const answers = await Promise.all(Array.from({ length: 20 }, ask))
    const refused = answers.filter(({ status }) => status === 429)
    expect(refused.length).toBeGreaterThan(10)
    expect(answers.filter(({ status }) => status === 200).length).toBeGreaterThanOrEqual(3)
    expect(Number(refused[0]!.headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
    expect(await refused[0]!.json()).toMatchObject({
      error: { code: 'RESOURCE_EXHAUSTED', retryable: true, retryAfterMs: expect.any(Number) },
    })
    expect((await gateway.ask('GET', '/v1/whoami')).status).toBe(200)
    expect(await refusals('slow', 'RESOURCE_EXHAUSTED')).toMatchObject([
      { action: 'GET /v1/whoami', detail: 'requests', count: refused.length },
    ])
  }, 60_000)
})

describe('the audit of refusals', () => {
  test('has calls without a token, with one that nobody knows, and with one that was revoked, and no secret', async () => {
    const made = await createToken(gateway.db.pool, { tenant: 'acme', name: 'gone' })
    await revokeToken(gateway.db.pool, 'acme', made.id)
    const unknown = `st_ak-${'x'.repeat(16)}_as-${'y'.repeat(32)}`
    const ask = (authorization?: string) =>
      fetch(new URL('/v1/sandboxes/secret-name', gateway.url), {
        headers: authorization === undefined ? {} : { authorization },
      })
    for (const header of [
      undefined,
      `Bearer ${unknown}`,
      `Bearer ${unknown}`,
      `Bearer ${formatToken(made)}`,
    ]) {
      expect((await ask(header)).status).toBe(401)
    }
    const action = 'GET /v1/sandboxes/:sandbox'
    expect(await refusals('acme', 'UNAUTHENTICATED')).toMatchObject([
      { tenant: 'acme', actor: `token:${made.id}`, action, detail: 'revoked', count: 1 },
    ])
    const everybodys = await refusals(null, 'UNAUTHENTICATED')
    const nobodys = everybodys.filter((each) => each.tenant === null && each.action === action)
    expect(nobodys.reduce((sum, { count }) => sum + count, 0)).toBe(3)
    const { rows } = await gateway.db.pool.query('select refusals::text as row from refusals')
    const text = JSON.stringify(rows)
    for (const secret of [made.secret, 'yyyyyyyy', 'secret-name']) expect(text).not.toContain(secret)
  }, 30_000)

  test('shows a tenant its own, and an operator everybody’s', async () => {
    await gateway.ask('GET', '/v1/tenants')
    await refusals('acme', 'PERMISSION_DENIED')
    const own = (await gateway.ask('GET', '/v1/refusals')).body.refusals
    expect(own.length).toBeGreaterThan(0)
    expect(new Set(own.map(({ tenant }: { tenant: string }) => tenant))).toEqual(new Set(['acme']))
    const all = (await asOperator('GET', '/v1/refusals?all=1')).body.refusals
    expect(all.some(({ tenant }: { tenant: string | null }) => tenant === null)).toBe(true)
  }, 30_000)
})

describe('an image of another tenant', () => {
  test('is not had by knowing the digest of its tarball', async () => {
    const theirs = { authorization: `Bearer ${await gateway.anotherTenantsToken()}` }
    const upload = await fetch(new URL('/v1/images?name=mine:1', gateway.url), {
      method: 'POST',
      headers: { ...theirs, 'content-type': 'application/x-tar' },
      body: 'not really a tarball',
    })
    // No snapshotter runs here; the upload itself is kept.
    expect(upload.status).toBe(503)
    const { rows } = await gateway.db.pool.query(`select sha256 from uploads where tenant = 'umbrella'`)
    const json = { name: 'stolen:1', sha256: rows[0].sha256 }
    const unknown = await gateway.ask('POST', '/v1/images', { ...json, sha256: 'a'.repeat(64) })
    expect(unknown.status).toBe(404)
    expect(await gateway.ask('POST', '/v1/images', json)).toEqual(unknown)
    expect((await gateway.ask('POST', '/v1/images', json, theirs)).status).toBe(503)
  })
})
