/** What a tenant or a worker can reach on the broker, and what it cannot: the attacks N-01 to N-06. */

import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals'
import { headers as natsHeaders, type Subscription } from '@nats-io/transport-node'
import { publishEvents } from './events.js'
import { commandHeaders } from './headers.js'
import { createWorkerIdentity } from './identity.js'
import { JetStreamServer } from './jetstream-server.js'
import type { Messaging } from './messaging.js'
import { COMMANDS, DEAD_LETTERS, EVENTS, ensureStreams, managerOf } from './streams.js'
import { controlSubject, workerSubject } from './subjects.js'
import { eventually, startNats, type TestNats } from './testing.js'

const ACME = { user: 'acme-app', password: 'acme-password-for-tests' }
const RIVAL = { user: 'rival-app', password: 'rival-password-for-tests' }
const WORKER_A = 'wk-01J0000000000000000000000A'
const WORKER_B = 'wk-01J0000000000000000000000B'
const keyA = createWorkerIdentity()
const keyB = createWorkerIdentity()
const encode = (text: string) => new TextEncoder().encode(text)

let nats: TestNats
let platform: Messaging
let acme: Messaging
let rival: Messaging
/** Every subject that a message came on in the platform's account, but for the broker's own traffic. */
let inside: string[]
let watching: Subscription[]

beforeAll(async () => {
  nats = await startNats({
    tenants: [
      { name: 'acme', users: [ACME] },
      { name: 'rival', users: [RIVAL] },
    ],
    workers: [
      { id: WORKER_A, nkeyPublic: keyA.publicKey },
      { id: WORKER_B, nkeyPublic: keyB.publicKey },
    ],
  })
  platform = await nats.connect()
  acme = await nats.connect({ credentials: ACME })
  rival = await nats.connect({ credentials: RIVAL })
  await ensureStreams(platform)
  const server = new JetStreamServer({ messaging: await nats.connect(), name: 'echo' })
  server.handle({ request: 'v1.*.req.echo.*' }, async (_, { tenant, actor }) => ({ tenant, actor }))
  await server.listen(() => {})
})

afterAll(() => nats?.close())

beforeEach(async () => {
  const jsm = await managerOf(platform)
  for (const stream of [COMMANDS, EVENTS, DEAD_LETTERS]) await jsm.streams.purge(stream)
  inside = []
  watching = ['v1.>', 'ctl.>', 'nudge.>', 'dead.>'].map((subject) =>
    platform.connection.subscribe(subject, { callback: (_, message) => void inside.push(message.subject) }),
  )
  await platform.connection.flush()
})

afterEach(() => {
  for (const subscription of watching) subscription.unsubscribe()
})

/** Sends as a hostile client would, then waits until everything that it caused has been seen. */
async function attack(by: Messaging, subject: string, options: { reply?: string; headers?: object } = {}) {
  const headers = natsHeaders()
  for (const [name, value] of Object.entries(options.headers ?? {})) headers.set(name, String(value))
  by.connection.publish(subject, encode('{"attack":true}'), { ...options, headers })
  await by.connection.flush()
  await by.request('req.echo.settle', {})
  await platform.connection.flush()
}

async function messagesIn(stream: string): Promise<number> {
  return (await (await managerOf(platform)).streams.info(stream)).state.messages
}

const foreign = () => inside.filter((subject) => !subject.startsWith('v1.rival.'))

test('a tenant asks and queues under its own name, and sees the names that the docs say', async () => {
  expect(await acme.request('req.echo.say', {})).toMatchObject({ tenant: 'acme' })
  const expiresAt = new Date(Date.now() + 60_000)
  const queued = await acme.publishCommand(
    'cmd.sandbox.create',
    {},
    commandHeaders({ commandId: 'command-1', expiresAt }),
  )
  expect(queued).toEqual({ stream: COMMANDS, seq: expect.any(Number) })
  await eventually(() => inside.includes('v1.acme.cmd.sandbox.create'))
})

test('a tenant hears its own events and outcomes and nobody else’s', async () => {
  const heard: Record<string, string[]> = { acme: [], rival: [] }
  acme.subscribe('evt.>', (_, { subject }) => void heard.acme!.push(subject))
  acme.subscribe('out.>', (_, { subject }) => void heard.acme!.push(subject))
  rival.subscribe('evt.>', (_, { subject }) => void heard.rival!.push(subject))
  rival.subscribe('out.>', (_, { subject }) => void heard.rival!.push(subject))
  await Promise.all([acme.connection.flush(), rival.connection.flush()])
  const sandbox = 'sb-01J0000000000000000000000A'
  await publishEvents(platform, [
    {
      eventId: 'event-1',
      tenant: 'acme',
      stream: sandbox,
      version: 1,
      type: 'SandboxStarted',
      typeVersion: 1,
      at: new Date(),
      data: {},
      meta: { actor: 'token:ci', commandId: 'command-1', traceparent: null },
      prevHash: new Uint8Array(32),
      hash: new Uint8Array(32),
      position: 1n,
    },
  ])
  platform.publishOutcome('acme', 'command-1', { ok: true })
  await eventually(() => heard.acme!.length === 2)
  await rival.connection.flush()
  expect(heard).toEqual({ acme: [`evt.sandbox.${sandbox}.SandboxStarted`, 'out.command-1'], rival: [] })
})

test('a subject that nobody serves answers UNAVAILABLE at once, also across accounts', async () => {
  for (const subscription of watching.splice(0)) subscription.unsubscribe()
  await platform.connection.flush()
  const started = performance.now()
  const request = acme.request('req.nobody.home', {}, { timeoutMs: 10_000 })
  await expect(request).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  expect(performance.now() - started).toBeLessThan(5_000)
})

test('the actor that a tenant claims is not believed, the one that a service tells is', async () => {
  const headers = { 'Sandtrail-Actor': 'token:root' }
  expect(await rival.request('req.echo.say', {}, { headers })).toMatchObject({ actor: 'nats:rival' })
  expect(await platform.request('v1.acme.req.echo.say', {}, { headers })).toMatchObject({
    actor: 'token:root',
  })
})

for (const subject of [
  'v1.acme.req.echo.say',
  'v1.acme.cmd.sandbox.create',
  'v1.acme.evt.sandbox.x.SandboxStarted',
  'evt.sandbox.x.SandboxStarted',
  'out.command-1',
  'nudge.events',
  'dead.v1.acme.cmd.sandbox.create',
  `ctl.${WORKER_A}.heartbeat`,
  `wrk.${WORKER_A}.order`,
  'cmd.nobody.pulls',
  '$JS.API.STREAM.DELETE.EVENTS',
  '$JS.ACK.COMMANDS.scheduler.1.1.1.1.0',
  '$SYS.REQ.SERVER.PING',
  '_R_.anything',
  '_INBOX.platform.x',
]) {
  test(`N-01: a tenant cannot publish on ${subject}`, async () => {
    const heard: string[] = []
    acme.subscribe('evt.>', (_, context) => void heard.push(context.subject))
    await attack(rival, subject)
    expect(foreign()).toEqual([])
    expect(heard).toEqual([])
    expect(await messagesIn(EVENTS)).toBe(0)
    expect(await messagesIn(COMMANDS)).toBe(0)
  })
}

for (const ask of ['req.echo.say', 'cmd.sandbox.create']) {
  for (const reply of [
    'v1.acme.cmd.sandbox.create',
    'cmd.sandbox.terminate',
    '$JS.API.STREAM.DELETE.EVENTS',
    '$JS.API.STREAM.PURGE.COMMANDS',
    '$JS.ACK.COMMANDS.victim.1.1.1.1.0',
    '$SYS.REQ.SERVER.PING',
    'dead.v1.acme.cmd.sandbox.create',
    'nudge.events',
    `wrk.${WORKER_A}.order`,
    '_INBOX.platform.x',
  ]) {
    test(`N-02: a reply of ${ask} to ${reply} reaches nobody else`, async () => {
      const jsm = await managerOf(platform)
      await platform.publishCommand('v1.acme.cmd.volume.create', {}, {})
      const stolen: string[] = []
      const spy = platform.connection.subscribe('_INBOX.platform.x', {
        callback: (_, message) => void stolen.push(message.subject),
      })
      await platform.connection.flush()
      inside = []
      await attack(rival, ask, { reply })
      expect(foreign()).toEqual([])
      expect(stolen).toEqual([])
      const kept = await jsm.streams.getMessage(COMMANDS, { last_by_subj: 'v1.acme.cmd.volume.create' })
      expect(kept).not.toBeNull()
      await jsm.streams.info(EVENTS)
      spy.unsubscribe()
    })
  }
}

test('N-02: a reply subject of $JS.ACK, which the server does not rewrite, acknowledges nobody’s message', async () => {
  const jsm = await managerOf(platform)
  await jsm.consumers.add(COMMANDS, {
    durable_name: 'victim',
    ack_policy: 'explicit',
    filter_subject: 'v1.*.cmd.volume.*',
  })
  await platform.publishCommand('v1.acme.cmd.volume.create', {}, {})
  const consumer = await jsm.jetstream().consumers.get(COMMANDS, 'victim')
  const message = await consumer.next({ expires: 2_000 })
  // The attacker has guessed the whole subject.
  const ackSubject = (message as unknown as { reply: string }).reply
  expect(ackSubject).toMatch(/^\$JS\.ACK\.COMMANDS\.victim\./)
  for (const ask of ['req.echo.say', 'cmd.sandbox.create']) await attack(rival, ask, { reply: ackSubject })
  expect((await consumer.info()).num_ack_pending).toBe(1)
  await jsm.consumers.delete(COMMANDS, 'victim')
})

for (const subject of [
  '>',
  'v1.>',
  'v1.acme.>',
  '$JS.>',
  '$SYS.>',
  'wrk.>',
  'ctl.>',
  'nudge.>',
  'dead.>',
  '_R_.>',
]) {
  test(`N-04: a tenant cannot listen on ${subject}`, async () => {
    const denied = Promise.withResolvers<Error | null>()
    const spy = rival.connection.subscribe(subject, { callback: (error) => denied.resolve(error) })
    expect(String(await denied.promise)).toContain('Permissions Violation')
    spy.unsubscribe()
  })
}

test('N-04: a tenant cannot take requests by joining the queue group of a service', async () => {
  const denied = Promise.withResolvers<Error | null>()
  rival.connection.subscribe('req.echo.*', { queue: 'echo', callback: (error) => denied.resolve(error) })
  expect(String(await denied.promise)).toContain('Permissions Violation')
  for (let n = 0; n < 20; n++)
    expect(await acme.request('req.echo.say', {})).toMatchObject({ tenant: 'acme' })
})

test('N-04: a tenant sees no inbox but those of its own account', async () => {
  const heard: string[] = []
  const spy = rival.connection.subscribe('_INBOX.>', {
    callback: (_, message) => void heard.push(message.subject),
  })
  await rival.connection.flush()
  await acme.request('req.echo.say', {})
  await platform.request('v1.acme.req.echo.say', {})
  await rival.connection.flush()
  expect(heard).toEqual([])
  spy.unsubscribe()
})

for (const api of [
  'INFO',
  'STREAM.NAMES',
  'STREAM.INFO.EVENTS',
  'STREAM.MSG.GET.EVENTS',
  'DIRECT.GET.EVENTS',
  'STREAM.CREATE.MINE',
  'STREAM.DELETE.EVENTS',
  'STREAM.PURGE.COMMANDS',
  'CONSUMER.CREATE.EVENTS',
  'CONSUMER.DELETE.COMMANDS.scheduler',
  'CONSUMER.MSG.NEXT.COMMANDS.scheduler',
]) {
  test(`N-05: a tenant gets no answer from JetStream's ${api}`, async () => {
    const request = rival.connection.request(`$JS.API.${api}`, encode('{}'), { timeout: 300 })
    await expect(request).rejects.toThrow()
    await (await managerOf(platform)).streams.info(EVENTS)
  })
}

test('N-06: a message id that another tenant used swallows no command', async () => {
  const id = { 'Nats-Msg-Id': 'command-1' }
  const [first, second] = await Promise.all([
    rival.publishCommand('cmd.sandbox.create', {}, id),
    acme.publishCommand('cmd.sandbox.create', {}, id),
  ])
  expect(first.seq).not.toBe(second.seq)
  expect(await messagesIn(COMMANDS)).toBe(2)
  expect(inside.toSorted()).toEqual(['v1.acme.cmd.sandbox.create', 'v1.rival.cmd.sandbox.create'])
})

for (const headers of [
  { 'Nats-Rollup': 'all' },
  { 'Nats-TTL': '1s' },
  { 'Nats-Schedule': '@at 2030-01-01T00:00:00Z', 'Nats-Schedule-Target': 'v1.acme.cmd.sandbox.create' },
  { 'Nats-Batch-Id': 'b', 'Nats-Batch-Sequence': '1', 'Nats-Batch-Commit': '1' },
  { 'Nats-Trace-Dest': 'v1.acme.cmd.sandbox.create' },
  { 'Nats-Request-Info': '{"acc":"PLATFORM"}' },
]) {
  test(`a tenant’s header ${Object.keys(headers)[0]} does nothing to others`, async () => {
    await platform.publishCommand('v1.acme.cmd.volume.create', {}, {})
    inside = []
    await attack(rival, 'cmd.sandbox.create', { headers })
    expect(foreign()).toEqual([])
    const jsm = await managerOf(platform)
    expect(
      await jsm.streams.getMessage(COMMANDS, { last_by_subj: 'v1.acme.cmd.volume.create' }),
    ).not.toBeNull()
  })
}

test('a body above 1 MiB from a client that does not care is refused with a code', async () => {
  const body = encode(`{"a":"${'x'.repeat(1024 ** 2)}"}`)
  const reply = await rival.connection.request('req.echo.say', body)
  expect(reply.json()).toMatchObject({ error: { code: 'PAYLOAD_TOO_LARGE' } })
})

const worker = (seed: string) => nats.connect({ credentials: { nkeySeed: seed } })

test('a worker is asked, answers, and asks under its own id', async () => {
  const a = await worker(keyA.seed)
  const server = new JetStreamServer({ messaging: a, name: 'worker' })
  server.handle({ request: workerSubject(WORKER_A, 'order') }, async (_, { workerId }) => ({ workerId }))
  await server.listen(() => {})
  expect(await platform.request(workerSubject(WORKER_A, 'order'), {})).toEqual({
    ok: true,
    workerId: WORKER_A,
  })

  const control = new JetStreamServer({ messaging: platform, name: 'scheduler' })
  control.handle({ request: 'ctl.*.heartbeat' }, async (_, { actor, workerId }) => ({ actor, workerId }))
  await control.listen(() => {})
  const headers = { 'Sandtrail-Actor': 'token:root' }
  const reply = await a.request(controlSubject(WORKER_A, 'heartbeat'), {}, { headers })
  expect(reply).toMatchObject({ actor: `worker:${WORKER_A}`, workerId: WORKER_A })
  await Promise.all([server.close(), control.close()])
})

for (const subject of [
  `ctl.${WORKER_B}.heartbeat`,
  `wrk.${WORKER_B}.order`,
  'v1.acme.req.echo.say',
  'v1.acme.cmd.sandbox.create',
  'v1.acme.evt.sandbox.x.SandboxStarted',
  'nudge.events',
  '$JS.API.STREAM.DELETE.EVENTS',
  '_INBOX.platform.x',
]) {
  test(`a worker cannot publish on ${subject}`, async () => {
    const a = await worker(keyA.seed)
    const stolen: string[] = []
    const spy = platform.connection.subscribe('_INBOX.platform.x', {
      callback: (_, message) => void stolen.push(message.subject),
    })
    await platform.connection.flush()
    a.connection.publish(subject, encode('{}'))
    await a.connection.flush()
    await platform.connection.flush()
    expect([...inside, ...stolen]).toEqual([])
    await (await managerOf(platform)).streams.info(EVENTS)
    spy.unsubscribe()
  })
}

test('a request that the broker does not allow is told so at once', async () => {
  const a = await worker(keyA.seed)
  await expect(a.request(controlSubject(WORKER_B, 'report'), {})).rejects.toMatchObject({
    code: 'PERMISSION_DENIED',
  })
})

test('a worker cannot listen to another’s orders', async () => {
  const a = await worker(keyA.seed)
  const denied = Promise.withResolvers<Error | null>()
  a.connection.subscribe(`wrk.${WORKER_B}.>`, { callback: (error) => denied.resolve(error) })
  expect(String(await denied.promise)).toContain('Permissions Violation')
})

test('a service cannot speak as a worker, nor read another service’s replies', async () => {
  const request = platform.request(controlSubject(WORKER_A, 'heartbeat'), {})
  await expect(request).rejects.toMatchObject({ code: 'PERMISSION_DENIED' })
  const denied = Promise.withResolvers<Error | null>()
  platform.connection.subscribe('_INBOX.>', { callback: (error) => denied.resolve(error) })
  expect(String(await denied.promise)).toContain('Permissions Violation')
})

test('a key that the configuration does not know is refused', async () => {
  await expect(worker(createWorkerIdentity().seed)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
})

test('a tenant that is added while the broker runs can sign in after a reload', async () => {
  const late = { user: 'late-app', password: 'late-password-for-tests' }
  await nats.reload({
    tenants: [
      { name: 'acme', users: [ACME] },
      { name: 'rival', users: [RIVAL] },
      { name: 'late', users: [late] },
    ],
  })
  const messaging = await nats.connect({ credentials: late })
  expect(await messaging.request('req.echo.say', {})).toMatchObject({ tenant: 'late' })
  // Those who were connected still are.
  expect(await acme.request('req.echo.say', {})).toMatchObject({ tenant: 'acme' })
})

test('a user that is removed is out at once', async () => {
  await nats.reload({
    tenants: [
      { name: 'acme', users: [ACME] },
      { name: 'rival', users: [] },
    ],
  })
  await expect(rival.request('req.echo.say', {}, { timeoutMs: 1_000 })).rejects.toMatchObject({
    retryable: true,
  })
  await expect(nats.connect({ credentials: RIVAL })).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
  expect(await acme.request('req.echo.say', {})).toMatchObject({ tenant: 'acme' })
})
