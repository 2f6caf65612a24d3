/**
 * Two tenants of one system. Every HTTP route and every NATS request is asked by one of them about the other's things and
 * about things that do not exist: the answers must be the same. The routes come from the gateway's own table, so that a
 * new one that is not covered here fails.
 */

import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { COMMANDS } from '#libs/contract'
import { makeId } from '#libs/domain'
import { type Credentials, connect, type JsonObject, type Messaging } from '#libs/messaging'
import { ROUTES } from '../apps/gateway/http/openapi.js'
import { newCommand, TestSystem, until } from './system.js'

let system: TestSystem
let acme: Tenant
let rival: Tenant
/** What acme has, by the parameter of a path that would name it; and what nobody has, alike in form. */
let theirs: Record<string, string[]>
let nobodys: Record<string, string[]>

interface Tenant {
  token: string
  nats: Messaging
}

beforeAll(async () => {
  system = await TestSystem.start()
  const made = [await system.ok('tenant', 'create', 'acme'), await system.ok('tenant', 'create', 'rival')]
  // As `make tenants`: while the system runs.
  const logins = await system.system.syncTenants()
  const [acmes, rivals] = await Promise.all(
    ['acme', 'rival'].map((name) => connectAs(logins[name] as Credentials)),
  )
  acme = { token: made[0]!, nats: acmes! }
  rival = { token: made[1]!, nats: rivals! }

  const volume = (await http(acme, 'POST', '/v1/volumes', { name: 'ledgers' })).body
  const app = (await http(acme, 'POST', '/v1/apps', { name: 'ledger-app', kind: 'deployed' })).body
    .appId as string
  const created = await http(acme, 'POST', '/v1/sandboxes', {
    name: 'vault',
    timeoutMs: 3_600_000,
    volumes: [{ volume: 'ledgers', path: '/data' }],
  })
  expect(created).toMatchObject({ status: 201 })
  const sandbox = created.body.sandboxId as string
  const exec = (
    await http(acme, 'POST', `/v1/sandboxes/${sandbox}/execs`, {
      argv: ['sh', '-c', 'echo classified; cat'],
      stdin: 'open',
      pty: { rows: 24, cols: 80 },
      waitMs: 1,
    })
  ).body.execId as string
  await until(async () => (await http(acme, 'GET', `/v1/execs/${exec}`)).body.state === 'running')
  const snapshot = (await http(acme, 'POST', `/v1/sandboxes/${sandbox}/snapshot`)).body
  const token = (await http(acme, 'POST', '/v1/tokens', { name: 'second' })).body.id as string
  const command = 'command:acme:a-refused-command'
  await http(
    acme,
    'POST',
    '/v1/sandboxes',
    { image: 'nowhere:1' },
    { 'idempotency-key': 'a-refused-command' },
  )

  theirs = {
    sandbox: [sandbox, 'vault', sandbox.slice(0, 20)],
    exec: [exec, exec.slice(0, 20)],
    image: [snapshot.imageId, snapshot.snapshotId],
    volume: [volume.volumeId, 'ledgers'],
    app: [app, 'ledger-app'],
    token: [token],
    tenant: ['acme'],
    stream: [sandbox, exec, snapshot.imageId, snapshot.snapshotId, volume.volumeId, app, command],
    worker: [(await http(acme, 'GET', `/v1/sandboxes/${sandbox}`)).body.workerId],
    seq: ['1'],
  }
  const id = (prefix: string) => makeId(prefix, Date.now(), randomBytes(10))
  nobodys = {
    sandbox: [id('sb'), 'nosuchthing', id('sb').slice(0, 20)],
    exec: [id('ex'), id('ex').slice(0, 20)],
    image: [id('im'), id('sn')],
    volume: [id('vo'), 'nosuchthing'],
    app: [id('ap'), 'nosuchthing'],
    token: [`ak-${'x'.repeat(16)}`],
    tenant: ['nobody'],
    stream: [id('sb'), id('ex'), id('im'), id('sn'), id('vo'), id('ap'), 'command:rival:not-a-command'],
    worker: [id('wk')],
    seq: ['999999'],
  }
}, 240_000)
afterAll(async () => {
  await Promise.all([acme?.nats.close(), rival?.nats.close()])
  await system?.stop()
}, 60_000)

/** A good body of each route that takes one. A route that is missing here fails. */
const BODIES: Record<string, object> = {
  'POST /v1/sandboxes/{sandbox}/execs': { argv: ['true'] },
  'PUT /v1/sandboxes/{sandbox}/tags': { tags: { a: 'b' } },
  'PUT /v1/sandboxes/{sandbox}/name': { name: 'named' },
  'POST /v1/sandboxes/{sandbox}/resize': { rows: 10, cols: 10 },
  'POST /v1/execs/{exec}/signal': { signal: 9 },
  'POST /v1/execs/{exec}/resize': { rows: 10, cols: 10 },
  'POST /v1/volumes/{volume}/commit': { sandbox: 'sandbox' },
  'POST /v1/volumes/{volume}/reload': { sandbox: 'sandbox' },
  'PATCH /v1/tenants/{tenant}': { sandboxes: 1 },
  'POST /v1/tenants/{tenant}/tokens': { name: 'n' },
  'POST /v1/tenants/{tenant}/suspend': {},
  'POST /v1/tenants/{tenant}/remove': {},
  'POST /v1/workers/{worker}/cordon': {},
  'POST /v1/workers/{worker}/drain': {},
}

const routes = Object.entries(ROUTES).filter(([, route]) => !route.public)
const aboutOne = routes.filter(([key]) => key.includes('{'))
const aboutAll = routes.filter(([key]) => key.startsWith('GET ') && !key.includes('{'))

test.each(aboutOne)('%s tells of another tenant’s things what it tells of none', async (key, route) => {
  const [method, pattern] = key.split(' ') as [string, string]
  const parameters = [...pattern.matchAll(/\{(\w+)\}/g)].map(([, name]) => name!)
  // Of an exec's output: which of the two, not a thing of a tenant's.
  const [parameter] = parameters.filter((name) => !(name === 'stream' && pattern.includes('/output/')))
  expect(Object.keys(theirs)).toContain(parameter)
  if (route.body !== undefined && route.body !== 'bytes') expect(Object.keys(BODIES)).toContain(key)

  const ask = async (reference: string) => {
    const path = pattern
      .replace(`{${parameter}}`, encodeURIComponent(reference))
      .replace('{stream}', 'stdout')
      .replace('{token}', theirs.token![0]!)
    // A sandbox in a body stands for one of the same owner as the thing in the path.
    const mentioned = (theirs[parameter!]!.includes(reference) ? theirs : nobodys).sandbox![0]!
    const body = JSON.parse(
      JSON.stringify(BODIES[key] ?? null).replace('"sandbox":"sandbox"', `"sandbox":"${mentioned}"`),
    )
    const answer = await http(rival, method, path, route.body === 'bytes' ? undefined : (body ?? undefined))
    const text = JSON.stringify(answer).replaceAll(reference, 'REFERENCE').replaceAll(mentioned, 'MENTIONED')
    return JSON.parse(text) as Answer
  }
  for (const [i, reference] of theirs[parameter!]!.entries()) {
    const [foreign, unknown] = [await ask(reference), await ask(nobodys[parameter!]![i]!)]
    expect(foreign).toEqual(unknown)
    expect(foreign.status).toBe(route.operator ? 403 : 404)
  }
})

test.each([
  ['an image in a create', 'image', 'POST', '/v1/sandboxes', (reference: string) => ({ image: reference })],
  [
    'a volume in a create',
    'volume',
    'POST',
    '/v1/sandboxes',
    (reference: string) => ({ volumes: [{ volume: reference, path: '/v' }] }),
  ],
  [
    'a sandbox in a commit to a volume of one’s own',
    'sandbox',
    'POST',
    '/v1/volumes/mine/commit',
    (reference: string) => ({ sandbox: reference }),
  ],
  [
    'a sandbox in a reload of a volume of one’s own',
    'sandbox',
    'POST',
    '/v1/volumes/mine/reload',
    (reference: string) => ({ sandbox: reference }),
  ],
  ['a stream to verify', 'stream', 'GET', '/v1/verify?stream=', null],
] as const)('%s is like one that nobody has', async (_, parameter, method, path, body) => {
  await http(rival, 'POST', '/v1/volumes', { name: 'mine' })
  const ask = async (reference: string) => {
    const answer = await http(
      rival,
      method,
      body === null ? path + encodeURIComponent(reference) : path,
      body === null ? undefined : body(reference),
    )
    return JSON.parse(JSON.stringify(answer).replaceAll(reference, 'REFERENCE')) as Answer
  }
  for (const [i, reference] of theirs[parameter]!.entries()) {
    const [foreign, unknown] = [await ask(reference), await ask(nobodys[parameter]![i]!)]
    expect(foreign).toEqual(unknown)
    expect(foreign.status).toBe(404)
  }
})

test.each(aboutAll)('%s has nothing of another tenant', async (key, route) => {
  const path = key.split(' ')[1]!
  const answer = await http(rival, 'GET', path)
  expect(answer.status).toBe(route.operator || path === '/v1/verify' ? 403 : 200)
  const text = JSON.stringify(answer.body)
  const secrets = Object.entries(theirs).flatMap(([name, references]) =>
    name === 'worker' || name === 'seq' ? [] : references,
  )
  for (const reference of secrets) expect(text).not.toContain(`"${reference}"`)
})

test('a tenant verifies a stream of its own, one at a time, and the report tells of nothing else', async () => {
  const stream = theirs.exec![0]!
  const verify = () => http(acme, 'GET', `/v1/verify?stream=${stream}`)
  const answers = await Promise.all(Array.from({ length: 4 }, verify))
  const reports = answers.filter(({ status }) => status === 200).map(({ body }) => body)
  expect(reports.length).toBeGreaterThan(0)
  expect(reports[0]).toMatchObject({ ok: true, streams: 1, problems: [] })
  for (const { body } of answers.filter(({ status }) => status !== 200)) {
    expect(body.error).toMatchObject({ code: 'RESOURCE_EXHAUSTED', retryAfterMs: 1_000 })
  }
}, 60_000)

test('the same Idempotency-Key of two tenants is two commands', async () => {
  const key = { 'idempotency-key': 'a-key-of-both-tenants' }
  const first = await http(acme, 'POST', '/v1/sandboxes', {}, key)
  const second = await http(rival, 'POST', '/v1/sandboxes', {}, key)
  expect([first.status, second.status]).toEqual([201, 201])
  expect(second.body.sandboxId).not.toBe(first.body.sandboxId)
  await http(acme, 'POST', `/v1/sandboxes/${first.body.sandboxId}/terminate`)
  await http(rival, 'POST', `/v1/sandboxes/${second.body.sandboxId}/terminate`)
}, 60_000)

describe('over NATS', () => {
  const id = (of: typeof theirs, parameter: string) => of[parameter]![0]!
  /** Every command and read with something in it that belongs to somebody. */
  const requests: Record<string, (of: typeof theirs) => object> = {
    'sandbox.terminate': (of) => ({ sandboxId: id(of, 'sandbox') }),
    'app.stop': (of) => ({ appId: id(of, 'app') }),
    'app.heartbeat': (of) => ({ appId: id(of, 'app') }),
    'sandbox.tag': (of) => ({ sandboxId: id(of, 'sandbox'), tags: {} }),
    'sandbox.name': (of) => ({ sandboxId: id(of, 'sandbox'), name: 'named' }),
    'sandbox.exec': (of) => ({ sandboxId: id(of, 'sandbox'), argv: ['true'] }),
    'sandbox.signal': (of) => ({ execId: id(of, 'exec'), signal: 9 }),
    'sandbox.create': (of) => ({ image: id(of, 'image') }),
    'snapshot.create': (of) => ({ sandboxId: id(of, 'sandbox') }),
    'image.remove': (of) => ({ image: id(of, 'image') }),
    'volume.commit': (of) => ({ sandboxId: id(of, 'sandbox'), volume: id(of, 'volume') }),
    'volume.reload': (of) => ({ sandboxId: id(of, 'sandbox'), volume: id(of, 'volume') }),
    'volume.remove': (of) => ({ volume: id(of, 'volume') }),
    'sandbox.get': (of) => ({ sandboxId: id(of, 'sandbox') }),
    'sandbox.wait': (of) => ({ sandboxId: id(of, 'sandbox'), timeoutMs: 0 }),
    'exec.get': (of) => ({ execId: id(of, 'exec') }),
    'exec.wait': (of) => ({ execId: id(of, 'exec'), timeoutMs: 0 }),
    'exec.output': (of) => ({ execId: id(of, 'exec'), stream: 'stdout' }),
    'image.get': (of) => ({ image: id(of, 'image') }),
    'snapshot.get': (of) => ({ snapshotId: of.image![1] }),
    'volume.get': (of) => ({ volume: id(of, 'volume') }),
    'volume.versions': (of) => ({ volume: id(of, 'volume') }),
  }
  /** Nothing of a tenant's is named in them. */
  const LISTS = ['sandbox.list', 'image.list', 'snapshot.list', 'volume.list', 'events.read']
  /** Served for operators alone, as what cordons a worker is. */
  const ADMINISTRATION = Object.keys(COMMANDS).filter((name) => /^(tenant|token)\./.test(name))
  /** These name nothing that exists, a digest aside (tested with the snapshotter), or are the platform's. */
  const WITHOUT = [
    'image.import',
    'volume.create',
    'app.create',
    'worker.cordon',
    'worker.uncordon',
    'worker.drain',
    ...ADMINISTRATION,
  ]

  test('every command, and every read of the sources, is in these lists', () => {
    const known = [...Object.keys(requests), ...LISTS, ...WITHOUT]
    for (const name of Object.keys(COMMANDS)) expect(known).toContain(name)
    const controllers = [
      'gateway/reads/reads.controller.ts',
      'snapshotter/reads.controller.ts',
      'volume-syncer/volume.controller.ts',
    ].map((path) => readFileSync(new URL(`../apps/${path}`, import.meta.url), 'utf8'))
    const served = controllers.flatMap((text) =>
      [...text.matchAll(/request: 'v1\.\*\.req\.([a-z.]+)'/g)].map(([, name]) => name!),
    )
    expect(served.length).toBeGreaterThan(10)
    for (const name of served) expect(known).toContain(name)
  })

  const ask = (tenant: Tenant, name: string, body: object) =>
    tenant.nats
      .request(`req.${name}`, body, { headers: newCommand(), timeoutMs: 20_000 })
      .then((reply) => ({ reply }))
      .catch(({ code, message, hint }) => ({ code, message, hint }) as JsonObject)

  test.each(Object.entries(requests))('req.%s about another’s is like about none', async (name, body) => {
    const clean = (answer: object, of: typeof theirs) => {
      const references = Object.values(of)
        .flat()
        .sort((a, b) => b.length - a.length)
      return references.reduce((text, each) => text.replaceAll(each, 'REFERENCE'), JSON.stringify(answer))
    }
    const foreign = await ask(rival, name, body(theirs))
    const unknown = await ask(rival, name, body(nobodys))
    expect(clean(foreign, theirs)).toBe(clean(unknown, nobodys))
    expect(foreign).toMatchObject({ code: expect.stringMatching(/_NOT_FOUND$/) })
  })

  test.each(LISTS)('req.%s has nothing of another tenant', async (name) => {
    const text = JSON.stringify(await ask(rival, name, {}))
    expect(text).toContain('reply')
    for (const reference of ['sandbox', 'exec', 'image', 'volume'].flatMap((key) => theirs[key]!)) {
      expect(text).not.toContain(`"${reference}"`)
    }
  })

  test('N-07: a body that names a tenant is refused, and a command sent again does nothing again', async () => {
    expect(await ask(rival, 'sandbox.create', { tenant: 'acme' })).toMatchObject({ code: 'INVALID_ARGUMENT' })
    const headers = newCommand()
    const send = () => rival.nats.request('req.sandbox.create', {}, { headers, timeoutMs: 20_000 })
    const [first, second] = [await send(), await send()]
    expect(second).toEqual(first)
    // Another tenant that has overheard id and body gets a sandbox of its own, or nothing.
    const stolen = await acme.nats.request('req.sandbox.create', {}, { headers, timeoutMs: 20_000 })
    expect(stolen.sandboxId).not.toBe(first.sandboxId)
    await ask(rival, 'sandbox.terminate', { sandboxId: first.sandboxId })
    await ask(acme, 'sandbox.terminate', { sandboxId: stolen.sandboxId })
  }, 60_000)

  test('N-10: a tenant with a new password is cut off from the old one at once, and nobody else is', async () => {
    const old = rival.nats
    const logins = await system.system.syncTenants('rival')
    await expect(old.request('req.sandbox.list', {}, { timeoutMs: 2_000 })).rejects.toMatchObject({
      code: expect.stringMatching(/UNAVAILABLE|DEADLINE_EXCEEDED/),
    })
    await old.close()
    rival.nats = await connectAs(logins.rival as Credentials)
    expect(await rival.nats.request('req.sandbox.list', {})).toMatchObject({ ok: true })
    expect(await acme.nats.request('req.sandbox.list', {})).toMatchObject({ ok: true })
  }, 60_000)
})

test('after all of it acme has what it had, and knows nothing of it', async () => {
  const sandbox = theirs.sandbox![0]!
  const { events } = (await http(acme, 'GET', `/v1/sandboxes/${sandbox}/history`)).body
  expect(events.map(({ type }: { type: string }) => type)).toEqual([
    'SandboxCreated',
    'SandboxPlaced',
    'SandboxStarted',
  ])
  expect((await http(acme, 'GET', `/v1/execs/${theirs.exec![0]}`)).body.state).toBe('running')
  for (const image of theirs.image!) {
    expect((await http(acme, 'GET', `/v1/images/${image}`)).body.state).toBe('ready')
  }
  expect((await http(acme, 'GET', '/v1/volumes/ledgers')).body).toMatchObject({ state: 'ready', version: 0 })
  const { tokens } = (await http(acme, 'GET', '/v1/tokens')).body
  expect(tokens.every(({ revokedAt }: { revokedAt: string | null }) => revokedAt === null)).toBe(true)
  expect((await http(acme, 'GET', '/v1/refusals')).body.refusals).toEqual([])
  const output = await fetch(
    new URL(`/v1/execs/${theirs.exec![0]}/output/stdout`, system.env.SANDTRAIL_URL),
    {
      headers: { authorization: `Bearer ${acme.token}` },
    },
  )
  expect(await output.text()).toContain('classified')
}, 60_000)

test('what rival was refused is in the audit, and an operator sees it', async () => {
  const wanted = ['GET /v1/tenants', 'PATCH /v1/tenants/:tenant', 'GET /v1/verify']
  // They are written behind the answers, some at a time.
  await until(async () => {
    const all = await system.json<{ tenant: string; code: string; action: string }[]>('refusals', '--all')
    const denied = all.filter(({ code, tenant }) => code === 'PERMISSION_DENIED' && tenant === 'rival')
    return wanted.every((action) => denied.some((refusal) => refusal.action === action))
  })
}, 60_000)

test('suspended it is refused on both ways in, and by force it is removed with all that it has; its trail stays', async () => {
  const sandbox = theirs.sandbox![0]!
  const asked = () =>
    acme.nats.request('req.sandbox.list', {}).then(
      () => null,
      ({ code }) => code as string,
    )
  expect(await asked()).toBeNull()
  expect(await system.ok('tenant', 'suspend', 'acme', '--reason', 'a test')).toBe('suspended')
  expect(await http(acme, 'GET', '/v1/sandboxes')).toMatchObject({
    status: 403,
    body: { error: { code: 'TENANT_SUSPENDED' } },
  })
  await until(async () => (await asked()) === 'TENANT_SUSPENDED')
  expect(await http(rival, 'GET', '/v1/sandboxes')).toMatchObject({ status: 200 })
  expect(await system.run(['tenant', 'rm', 'acme'])).toMatchObject({
    code: 5,
    stderr: expect.stringContaining('TENANT_IN_USE'),
  })

  expect(await system.ok('tenant', 'rm', 'acme', '--force')).toBe('removing')
  const standing = async () => JSON.parse(await system.ok('tenant', 'describe', 'acme', '-o', 'json'))
  await until(async () => (await standing()).state === 'removed')
  expect((await standing()).used).toMatchObject({ sandboxes: 0, execs: 0 })
  expect(await http(acme, 'GET', '/v1/whoami')).toMatchObject({ status: 401 })
  const history = JSON.parse(await system.ok('tenant', 'history', 'acme', '-o', 'json')) as { type: string }[]
  const types = history.map(({ type }) => type)
  expect(types.slice(0, 2)).toEqual(['TenantCreated', 'TokenCreated'])
  expect(types).toEqual(expect.arrayContaining(['TenantSuspended', 'TenantRemovalRequested', 'TokenRevoked']))
  expect(types.at(-1)).toBe('TenantRemoved')
  expect(await system.run(['tenant', 'create', 'acme'])).toMatchObject({ code: 5 })
  expect(await system.run(['verify'])).toMatchObject({ code: 0 })
  expect(await system.run(['verify', sandbox])).toMatchObject({ code: 0 })
}, 180_000)

interface Answer {
  status: number
  // biome-ignore lint/suspicious/noExplicitAny: a test looks into any answer
  body: any
}

async function http(
  { token }: Pick<Tenant, 'token'>,
  method: string,
  path: string,
  body?: object,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const response = await fetch(new URL(path, system.env.SANDTRAIL_URL), {
    method,
    headers: {
      authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  const text = await response.text()
  return { status: response.status, body: text.startsWith('{') ? JSON.parse(text) : text }
}

function connectAs(credentials: Credentials): Promise<Messaging> {
  return connect({ servers: system.env.NATS_URL!, name: 'test', credentials })
}
