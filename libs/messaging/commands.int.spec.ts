import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals'
import { Rejected, SandtrailError } from '#libs/domain'
import { DEAD_REASON_HEADER, DEAD_SUBJECT_HEADER } from './dead-letters.js'
import { commandHeaders } from './headers.js'
import { JetStreamServer } from './jetstream-server.js'
import type { JsonObject } from './json.js'
import type { Messaging } from './messaging.js'
import type { CommandPattern, Handler } from './patterns.js'
import { COMMANDS, DEAD_LETTERS, ensureStreams, managerOf } from './streams.js'
import { eventually, startNats, type TestNats } from './testing.js'

const CREATE = 'v1.acme.cmd.sandbox.create'
const PATTERN: CommandPattern = { command: 'v1.*.cmd.sandbox.*', durable: 'scheduler' }

let nats: TestNats
let sender: Messaging
let servers: JetStreamServer[] = []

beforeAll(async () => {
  nats = await startNats()
})

afterAll(() => nats?.close())

beforeEach(async () => {
  sender = await nats.connect()
  await ensureStreams(sender)
  const jsm = await managerOf(sender)
  await jsm.streams.purge(COMMANDS)
  await jsm.streams.purge(DEAD_LETTERS)
})

afterEach(async () => {
  await Promise.all(servers.map((server) => server.close()))
  servers = []
})

async function serve(handler: Handler, pattern: Partial<CommandPattern> = {}): Promise<JetStreamServer> {
  const server = new JetStreamServer({ messaging: await nats.connect(), name: 'scheduler' })
  server.handle({ ...PATTERN, ...pattern }, handler)
  await new Promise<void>((resolve, reject) => {
    void server.listen((error) => (error ? reject(error) : resolve()))
  })
  servers.push(server)
  return server
}

function headersFor(commandId: string, expiresInMs = 600_000) {
  return commandHeaders({ commandId, expiresAt: new Date(Date.now() + expiresInMs) })
}

function send(commandId: string, body: JsonObject = {}, expiresInMs?: number) {
  return sender.publishCommand(CREATE, body, headersFor(commandId, expiresInMs))
}

/** As a caller does: with the same id until it is queued. */
async function sendUntilQueued(commandId: string): Promise<void> {
  for (let attempt = 1; attempt <= 20; attempt++) {
    const queued = await send(commandId).catch(() => null)
    if (queued) return
  }
  throw new Error('never queued')
}

async function countOf(stream: string): Promise<number> {
  const jsm = await managerOf(sender)
  return (await jsm.streams.info(stream)).state.messages
}

test('200 commands take effect once each, with a broker killed and started in between', async () => {
  const done = new Map<string, number>()
  await serve(async (_, { commandId }) => {
    // The service knows a re-send by its id, as Postgres does; here it counts.
    done.set(commandId!, (done.get(commandId!) ?? 0) + 1)
  })
  const ids = Array.from({ length: 200 }, (_, i) => `command-${i}`)
  for (const id of ids.slice(0, 100)) await sendUntilQueued(id)
  const rest = Promise.all(ids.slice(100).map(sendUntilQueued))
  await nats.stop('SIGKILL')
  await nats.start()
  await rest
  await eventually(async () => done.size === 200 && (await countOf(COMMANDS)) === 0, 20_000)
  expect([...done.keys()].sort()).toEqual([...ids].sort())
  expect(await countOf(DEAD_LETTERS)).toBe(0)
}, 60_000)

test('commands of one key are handled in order, those of others beside them', async () => {
  const seen: Record<string, number[]> = { a: [], b: [], c: [] }
  let running = 0
  let most = 0
  const key = (body: JsonObject) => String(body.key)
  for (let n = 0; n < 30; n++) for (const name of 'abc') await send(`${name}-command-${n}`, { key: name, n })
  await serve(
    async (body) => {
      most = Math.max(most, ++running)
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 5))
      seen[String(body.key)]!.push(Number(body.n))
      running--
    },
    { key, concurrency: 8 },
  )
  await eventually(async () => (await countOf(COMMANDS)) === 0)
  const inOrder = Array.from({ length: 30 }, (_, n) => n)
  expect(seen).toEqual({ a: inOrder, b: inOrder, c: inOrder })
  expect(most).toBe(3)
})

test('no more than `concurrency` commands are handled at a time', async () => {
  let running = 0
  let most = 0
  let handled = 0
  for (let n = 0; n < 40; n++) await send(`command-${n}`)
  await serve(
    async () => {
      most = Math.max(most, ++running)
      await new Promise((resolve) => setTimeout(resolve, 5))
      running--
      handled++
    },
    { concurrency: 4 },
  )
  await eventually(() => handled === 40)
  expect(most).toBe(4)
})

test('trouble that may pass brings the command again, with a growing delay', async () => {
  const at: number[] = []
  await serve(async () => {
    at.push(performance.now())
    if (at.length < 3) throw new SandtrailError('UNAVAILABLE', 'the database is away')
  })
  await send('command-1')
  await eventually(async () => at.length === 3 && (await countOf(COMMANDS)) === 0)
  expect(at[1]! - at[0]!).toBeGreaterThan(390)
  expect(at[2]! - at[1]!).toBeGreaterThan(790)
})

test('trouble that may pass lasts no longer than the command: expired, it is dead', async () => {
  await serve(async () => {
    throw new SandtrailError('UNAVAILABLE', 'the database is away')
  })
  await send('command-1', {}, 100)
  await eventually(async () => (await countOf(DEAD_LETTERS)) === 1 && (await countOf(COMMANDS)) === 0)
})

test('a command that keeps failing is dead after its deliveries, as it came and with the reason', async () => {
  let deliveries = 0
  const outcomes: JsonObject[] = []
  sender.subscribe('v1.acme.out.>', (body) => void outcomes.push(body))
  await serve(
    async () => {
      deliveries++
      throw new TypeError('password=hunter2')
    },
    { deliveriesMax: 2 },
  )
  await sender.publishCommand(CREATE, { n: 1 }, { ...headersFor('command-1'), 'Nats-Custom': 'x' })
  await eventually(async () => (await countOf(COMMANDS)) === 0)
  expect(deliveries).toBe(2)
  const jsm = await managerOf(sender)
  const dead = await jsm.streams.getMessage(DEAD_LETTERS, { last_by_subj: `dead.${CREATE}` })
  expect(dead?.json()).toEqual({ n: 1 })
  expect(dead?.header.get('Sandtrail-Command-Id')).toBe('command-1')
  expect(dead?.header.get(DEAD_SUBJECT_HEADER)).toBe(CREATE)
  // An error without a code may hold a secret in its text.
  expect(dead?.header.get(DEAD_REASON_HEADER)).toBe('TypeError')
  expect(dead?.header.has('Nats-Custom')).toBe(false)
  await eventually(() => outcomes.length === 1)
  expect(outcomes[0]).toMatchObject({ error: { code: 'INTERNAL' } })
})

for (const [what, bytes, headers] of [
  ['a body that is no JSON', '{"a":', headersFor('command-1')],
  ['a damaged header', '{}', { 'Sandtrail-Command-Id': 'a..b.c.d' }],
  ['headers without end', '{}', Object.fromEntries(Array.from({ length: 1_000 }, (_, i) => [`X-${i}`, 'x']))],
] as const) {
  test(`${what} is dead at once, and no handler sees it`, async () => {
    let handled = 0
    await serve(async () => void handled++)
    await send('command-0')
    const js = (await managerOf(sender)).jetstream()
    const { headers: create } = await import('@nats-io/transport-node')
    const sent = create()
    for (const [name, value] of Object.entries(headers)) sent.set(name, value)
    await js.publish(CREATE, bytes, { headers: sent })
    await eventually(async () => (await countOf(DEAD_LETTERS)) === 1 && (await countOf(COMMANDS)) === 0)
    expect(handled).toBe(1)
  })
}

test('a handler that lets a refusal out has found a permanent error: dead at once', async () => {
  let deliveries = 0
  await serve(async () => {
    deliveries++
    throw new Rejected('INVALID_ARGUMENT', 'not a command')
  })
  await send('command-1')
  await eventually(async () => (await countOf(DEAD_LETTERS)) === 1 && (await countOf(COMMANDS)) === 0)
  expect(deliveries).toBe(1)
})

const losses: Record<string, () => Promise<unknown>> = {
  'a wiped store': async () => {
    await nats.stop('SIGKILL')
    await nats.start({ wipe: true })
  },
  'a deleted consumer': async () => (await managerOf(sender)).consumers.delete(COMMANDS, 'scheduler'),
  'a deleted stream': async () => (await managerOf(sender)).streams.delete(COMMANDS),
  'a paused consumer': async () =>
    (await managerOf(sender)).consumers.pause(COMMANDS, 'scheduler', new Date(Date.now() + 3_600_000)),
  'a changed filter': async () =>
    (await managerOf(sender)).consumers.delete(COMMANDS, 'scheduler').then(async () =>
      (await managerOf(sender)).consumers.add(COMMANDS, {
        durable_name: 'scheduler',
        ack_policy: 'explicit',
        filter_subjects: ['v1.*.cmd.sandbox.nothing'],
      }),
    ),
}

for (const [what, lose] of Object.entries(losses)) {
  test(`commands flow again within 15 s after ${what}`, async () => {
    const done = new Set<string>()
    await serve(async (_, { commandId }) => void done.add(commandId!))
    await sendUntilQueued('command-before')
    await eventually(() => done.has('command-before'))
    await lose()
    const started = performance.now()
    // A command may be lost with the store; its sender sends it again until it sees the outcome.
    await eventually(async () => {
      await send('command-after').catch(() => {})
      return done.has('command-after')
    }, 15_000)
    expect(performance.now() - started).toBeLessThan(15_000)
  }, 40_000)
}

test('closing waits for the work in hand and gives back what was not begun', async () => {
  const begun: string[] = []
  const release = Promise.withResolvers<void>()
  const server = await serve(
    async (_, { commandId }) => {
      begun.push(commandId!)
      await release.promise
    },
    { concurrency: 2 },
  )
  for (let n = 0; n < 4; n++) await send(`command-${n}`)
  await eventually(() => begun.length === 2)
  const closed = server.close()
  release.resolve()
  await closed
  expect(begun).toHaveLength(2)
  const elsewhere: string[] = []
  await serve(async (_, { commandId }) => void elsewhere.push(commandId!))
  await eventually(async () => elsewhere.length === 2 && (await countOf(COMMANDS)) === 0)
  expect([...begun, ...elsewhere].sort()).toEqual(['command-0', 'command-1', 'command-2', 'command-3'])
})

test('a full queue refuses with a code, and what is queued stays', async () => {
  const payload = new TextEncoder().encode('{}')
  for (let n = 0; n < 10_000; n++) sender.connection.publish(CREATE, payload)
  await sender.connection.flush()
  await expect(send('command-1')).rejects.toMatchObject({ code: 'UNAVAILABLE', retryable: true })
  expect(await countOf(COMMANDS)).toBe(10_000)
  // Another verb has a share of its own.
  await sender.publishCommand('v1.acme.cmd.sandbox.terminate', {}, headersFor('command-2'))
}, 30_000)

test('a service does not start on a stream that cannot be made as it is needed', async () => {
  const jsm = await managerOf(sender)
  await jsm.streams.delete(COMMANDS)
  await jsm.streams.add({ name: COMMANDS, subjects: ['v1.*.cmd.>'], retention: 'limits' })
  await expect(serve(async () => {})).rejects.toMatchObject({ code: 'INTERNAL' })
  await jsm.streams.delete(COMMANDS)
})
