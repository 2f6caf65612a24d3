import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals'
import { Rejected } from '#libs/domain'
import { listDeadLetters, readDeadLetter, redriveDeadLetter, removeDeadLetter } from './dead-letters.js'
import { commandHeaders } from './headers.js'
import { JetStreamServer } from './jetstream-server.js'
import type { JsonObject } from './json.js'
import type { Messaging } from './messaging.js'
import { COMMANDS, DEAD_LETTERS, ensureStreams, managerOf } from './streams.js'
import { eventually, startNats, type TestNats } from './testing.js'

const CREATE = 'v1.acme.cmd.sandbox.create'

let nats: TestNats
let messaging: Messaging
let server: JetStreamServer
const handled: { commandId: string | null; body: JsonObject }[] = []
let refuses = true

beforeAll(async () => {
  nats = await startNats()
  messaging = await nats.connect()
  await ensureStreams(messaging)
  server = new JetStreamServer({ messaging, name: 'scheduler' })
  server.handle({ command: 'v1.*.cmd.sandbox.*', durable: 'scheduler' }, async (body, { commandId }) => {
    if (refuses) throw new Rejected('INVALID_ARGUMENT', 'the image is misspelt')
    handled.push({ commandId, body })
  })
  await new Promise<void>((resolve, reject) => {
    void server.listen((error) => (error ? reject(error) : resolve()))
  })
})
afterAll(async () => {
  await server?.close()
  await nats?.close()
})
beforeEach(() => {
  refuses = true
})
afterEach(async () => {
  const jsm = await managerOf(messaging)
  await jsm.streams.purge(COMMANDS)
  await jsm.streams.purge(DEAD_LETTERS)
})

const dead = () => listDeadLetters(messaging, { limit: 100 })

async function bury(commandId: string, body: JsonObject = {}) {
  const headers = commandHeaders({ commandId, expiresAt: new Date(Date.now() + 60_000) })
  await messaging.publishCommand(CREATE, body, { ...headers, 'Caller-Header': 'kept' })
  await eventually(async () => (await dead()).some((letter) => letter.commandId === commandId))
  return (await dead()).find((letter) => letter.commandId === commandId)!
}

test('they are listed with what, when and why, oldest first and in pages', async () => {
  const first = await bury('command-1')
  const second = await bury('command-2')
  await bury('command-3')
  expect(first).toMatchObject({
    subject: CREATE,
    tenant: 'acme',
    commandId: 'command-1',
    deliveries: 1,
    reason: 'INVALID_ARGUMENT: the image is misspelt',
  })
  expect((await dead()).map(({ commandId }) => commandId)).toEqual(['command-1', 'command-2', 'command-3'])
  await removeDeadLetter(messaging, second.seq)
  const page = await listDeadLetters(messaging, { after: first.seq, limit: 1 })
  expect(page.map(({ commandId }) => commandId)).toEqual(['command-3'])
})

test('one is shown without the values of env and stdin', async () => {
  const env = { TOKEN: 'canary-value', OTHER: 'canary-value' }
  const { seq } = await bury('command-4', { argv: ['true'], env, stdinBase64: 'Y2FuYXJ5LXZhbHVl' })
  const shown = await readDeadLetter(messaging, seq)
  expect(shown.headers['Caller-Header']).toBe('kept')
  expect(shown.body).toEqual({
    argv: ['true'],
    env: { TOKEN: '[redacted]', OTHER: '[redacted]' },
    stdinBase64: '[redacted]',
  })
})

test('what is sent again comes to its handler as it was, with time to be handled, and is dead no more', async () => {
  const { seq } = await bury('command-5', { image: 'base', env: { A: 'b' } })
  refuses = false
  await redriveDeadLetter(messaging, seq)
  await eventually(async () => handled.length === 1)
  expect(handled).toEqual([{ commandId: 'command-5', body: { image: 'base', env: { A: 'b' } } }])
  expect(await dead()).toEqual([])
  await expect(redriveDeadLetter(messaging, seq)).rejects.toMatchObject({ code: 'NOT_FOUND' })
})

test('what is refused again is dead again, with its own headers and one reason', async () => {
  const { seq } = await bury('command-6')
  await redriveDeadLetter(messaging, seq)
  await eventually(async () => (await dead()).length === 1)
  const [again] = await dead()
  const { headers } = await readDeadLetter(messaging, again!.seq)
  expect(Object.keys(headers).filter((name) => name.startsWith('Sandtrail-Dead'))).toHaveLength(4)
  expect(Date.parse(headers['Sandtrail-Expires-At']!)).toBeGreaterThan(Date.now() + 500_000)
})
