import { createHash, randomUUID } from 'node:crypto'
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals'
import { HASH_HEADER, POSITION_HEADER, type PublishableEvent, publishEvents } from './events.js'
import type { Listener, Messaging } from './messaging.js'
import { EVENTS, ensureStreams, managerOf } from './streams.js'
import { eventually, startNats, type TestNats } from './testing.js'
import { watchStreams } from './watch-streams.js'

/** Production looks every 5 s. */
const OFTEN = { everyMs: 200 }
const SANDBOX = 'sb-01J0000000000000000000000A'

let nats: TestNats
let messaging: Messaging
const watches: Listener[] = []

beforeAll(async () => {
  nats = await startNats()
  messaging = await nats.connect()
})

afterEach(() => {
  for (const watch of watches.splice(0)) watch.close()
})

afterAll(() => nats?.close())

function event(position: number, changes: Partial<PublishableEvent> = {}): PublishableEvent {
  return {
    eventId: randomUUID(),
    tenant: 'acme',
    stream: SANDBOX,
    version: position,
    type: 'SandboxStarted',
    typeVersion: 1,
    at: new Date('2026-11-24T12:00:00.000Z'),
    data: { position },
    meta: { actor: 'token:ci', commandId: 'command-1', traceparent: null },
    prevHash: createHash('sha256').digest(),
    hash: createHash('sha256').update(String(position)).digest(),
    position: BigInt(position),
    ...changes,
  }
}

const ledger = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => event(from + i))

async function wipe(): Promise<void> {
  await nats.stop('SIGKILL')
  await nats.start({ wipe: true })
}

test('events go out in the order of their positions, with their place in ledger and stream', async () => {
  await ensureStreams(messaging)
  const positions: number[] = []
  messaging.subscribe('v1.acme.evt.sandbox.>', (body) => void positions.push(Number(body.position)))
  const events = ledger(1, 1_000)
  await publishEvents(messaging, events)
  await eventually(() => positions.length === 1_000)
  expect(positions).toEqual(events.map(({ position }) => Number(position)))

  const jsm = await managerOf(messaging)
  const last = await jsm.streams.getMessage(EVENTS, {
    last_by_subj: `v1.acme.evt.sandbox.${SANDBOX}.SandboxStarted`,
  })
  expect(last?.header.get(POSITION_HEADER)).toBe('1000')
  expect(last?.header.get(HASH_HEADER)).toBe(Buffer.from(events[999]!.hash).toString('hex'))
  expect(last?.json()).toMatchObject({
    position: 1000,
    stream: SANDBOX,
    aggregate: 'sandbox',
    version: 1000,
    type: 'SandboxStarted',
    at: '2026-11-24T12:00:00.000Z',
    data: { position: 1000 },
    meta: { commandId: 'command-1' },
  })
})

test('what is sealed is not published', async () => {
  const sealed = { ...event(1), sealed: Buffer.from('canary') }
  await publishEvents(messaging, [sealed])
  const jsm = await managerOf(messaging)
  const last = await jsm.streams.getMessage(EVENTS, {
    last_by_subj: `v1.acme.evt.sandbox.${SANDBOX}.SandboxStarted`,
  })
  expect(last?.json()).not.toHaveProperty('sealed')
})

test('events that are published again after a crash are kept once', async () => {
  await wipe()
  await ensureStreams(messaging)
  const events = ledger(1, 50)
  await publishEvents(messaging, events)
  await publishEvents(messaging, events)
  const jsm = await managerOf(messaging)
  expect((await jsm.streams.info(EVENTS)).state.messages).toBe(50)
})

test('an event of any size and any stream name goes out, and holds up nobody', async () => {
  await ensureStreams(messaging)
  const bodies: { data: unknown; dataOmitted?: boolean; stream: string }[] = []
  messaging.subscribe('v1.acme.evt.>', (body) => void bodies.push(body as never))
  const large = event(1, { data: { text: 'x'.repeat(1_100_000) } })
  const rejection = event(2, { stream: 'command:acme:a.b c*>ü.1', type: 'CommandRejected' })
  await publishEvents(messaging, [large, rejection, event(3, { stream: 'anything else' })])
  await eventually(() => bodies.length === 3)
  expect(bodies[0]).toMatchObject({ data: null, dataOmitted: true })
  expect(bodies.map(({ stream }) => stream)).toEqual([SANDBOX, 'command:acme:a.b c*>ü.1', 'anything else'])
})

test('while the broker is away nothing counts as published, and it goes on afterwards', async () => {
  await ensureStreams(messaging)
  await nats.stop('SIGKILL')
  const events = ledger(1, 10)
  const published = publishEvents(messaging, events).catch((error) => error)
  await nats.start()
  const result = await published
  if (result instanceof Error) expect(result).toMatchObject({ retryable: true })
  await publishEvents(messaging, events)
})

test('an empty store is told at the start, and a wiped one when it happens: the ledger fills it again', async () => {
  await wipe()
  const events = ledger(1, 20)
  const told: (bigint | null)[] = []
  const republish = async (lastPosition: bigint | null) => {
    told.push(lastPosition)
    await publishEvents(messaging, events.slice(Number(lastPosition ?? 0n)))
  }
  watches.push(await watchStreams(messaging, republish, OFTEN))
  expect(told).toEqual([null])

  await wipe()
  const jsm = await managerOf(messaging)
  const count = () =>
    jsm.streams.info(EVENTS).then(
      ({ state }) => state.messages,
      () => 0,
    )
  await eventually(async () => (await count()) === 20, 15_000)
  expect(told).toEqual([null, null])
}, 30_000)

test('a deleted EVENTS is made and filled again', async () => {
  await wipe()
  const events = ledger(1, 20)
  watches.push(await watchStreams(messaging, () => publishEvents(messaging, events), OFTEN))
  const jsm = await managerOf(messaging)
  await jsm.streams.delete(EVENTS)
  await eventually(
    () =>
      jsm.streams.info(EVENTS).then(
        ({ state }) => state.messages === 20,
        () => false,
      ),
    15_000,
  )
}, 30_000)

test('a store that was lost, and published to before anybody looked, is made anew and filled from the start', async () => {
  await wipe()
  await ensureStreams(messaging)
  const events = ledger(1, 20)
  await publishEvents(messaging, events.slice(12))
  const told: (bigint | null)[] = []
  const republish = async (lastPosition: bigint | null) => {
    told.push(lastPosition)
    await publishEvents(messaging, events)
  }
  watches.push(await watchStreams(messaging, republish, OFTEN))
  expect(told).toEqual([null])
  const jsm = await managerOf(messaging)
  const first = await jsm.streams.getMessage(EVENTS, { seq: 1 })
  expect(first?.header.get(POSITION_HEADER)).toBe('1')
  expect((await jsm.streams.info(EVENTS)).state.messages).toBe(20)
}, 30_000)

test('a store that lost its newest messages is filled from where it ends', async () => {
  await wipe()
  const events = ledger(1, 20)
  const told: (bigint | null)[] = []
  watches.push(
    await watchStreams(
      messaging,
      async (lastPosition) => {
        told.push(lastPosition)
        await publishEvents(messaging, events.slice(Number(lastPosition ?? 0n)))
      },
      OFTEN,
    ),
  )
  // As an older backup would be: the same messages, less the newest, in a stream that was made anew.
  const jsm = await managerOf(messaging)
  await jsm.streams.delete(EVENTS)
  await ensureStreams(messaging)
  await publishEvents(messaging, events.slice(0, 12))
  await eventually(() => jsm.streams.info(EVENTS).then(({ state }) => state.messages === 20), 15_000)
  expect(told).toEqual([null, 12n])
}, 30_000)

test('a loss is told again until the ledger has been published', async () => {
  await wipe()
  let calls = 0
  const onLost = async () => {
    calls++
    if (calls === 2) throw new Error('the database is away')
    await publishEvents(messaging, ledger(1, 3))
  }
  watches.push(await watchStreams(messaging, onLost, OFTEN))
  await (await managerOf(messaging)).streams.delete(EVENTS)
  await eventually(() => calls === 3, 20_000)
}, 30_000)
