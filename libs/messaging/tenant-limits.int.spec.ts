/** N-08: the limits of a tenant's account hold on a real server, and a neighbour is not held up. */

import { createConnection } from 'node:net'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { JetStreamServer } from './jetstream-server.js'
import type { Messaging } from './messaging.js'
import { startNats, type TestNats } from './testing.js'

const LOUD = { user: 'loud-app', password: 'loud-password-for-tests' }
const CALM = { user: 'calm-app', password: 'calm-password-for-tests' }
const LIMITS = { connections: 3, subscriptions: 5, payloadBytes: 4_096 }
const encode = (text: string) => new TextEncoder().encode(text)

let nats: TestNats
let calm: Messaging
beforeAll(async () => {
  nats = await startNats({
    tenants: [
      { name: 'loud', users: [LOUD], limits: LIMITS },
      { name: 'calm', users: [CALM] },
    ],
  })
  const server = new JetStreamServer({ messaging: await nats.connect(), name: 'echo' })
  server.handle({ request: 'v1.*.req.echo.*' }, async (_, { tenant }) => ({ tenant }))
  await server.listen(() => {})
  calm = await nats.connect({ credentials: CALM })
})
afterAll(() => nats?.close())

const neighbourIsServed = async () =>
  expect(await calm.request('req.echo.say', {})).toMatchObject({ tenant: 'calm' })

test('connections beyond the limit are refused, and those that are there go on', async () => {
  const tries = await Promise.allSettled(
    Array.from({ length: 8 }, () => nats.connect({ credentials: LOUD, connectWithinMs: 1 })),
  )
  const open = tries.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
  expect(open).toHaveLength(LIMITS.connections)
  for (const one of open) expect(await one.request('req.echo.say', {})).toMatchObject({ tenant: 'loud' })
  await neighbourIsServed()
  for (const one of open) await one.connection.close()
}, 60_000)

test('subscriptions beyond the limit are refused', async () => {
  const subs = Array.from({ length: 200 }, (_, n) => `SUB evt.sandbox.${n}.> ${n}\r\n`).join('')
  expect(await rawly(subs)).toContain('maximum subscriptions exceeded')
  await neighbourIsServed()
}, 60_000)

test('a message larger than the tenant’s limit is refused, though the server would take it', async () => {
  const body = `{"a":"${'x'.repeat(2 * LIMITS.payloadBytes)}"}`
  expect(await rawly(`PUB req.echo.say ${body.length}\r\n${body}\r\n`)).toContain('Maximum Payload Violation')
  await neighbourIsServed()
}, 60_000)

test('a tenant that waits for many answers leaves room for another’s requests', async () => {
  const release = Promise.withResolvers<void>()
  const server = new JetStreamServer({ messaging: await nats.connect(), name: 'slow' })
  server.handle({ request: 'v1.*.req.slow.*', concurrency: 8 }, async (body) => {
    if (body.wait) await release.promise
    return {}
  })
  await server.listen(() => {})
  const loud = await connectAgain()
  const ask = () =>
    loud.request('req.slow.say', { wait: true }, { timeoutMs: 30_000 }).catch((error) => error)
  const asked = Array.from({ length: 20 }, ask)
  const refused = await Promise.any(asked)
  expect(refused).toMatchObject({ code: 'RESOURCE_EXHAUSTED', retryAfterMs: 1_000, retryable: true })
  expect(await calm.request('req.slow.say', {})).toMatchObject({ ok: true })
  release.resolve()
  const answers = await Promise.all(asked)
  expect(answers.filter(({ ok }) => ok === true)).toHaveLength(4)
  // Their places are free again.
  expect(await loud.request('req.slow.say', {})).toMatchObject({ ok: true })
  await server.close()
  await loud.connection.close()
}, 60_000)

test('a flood of requests of one tenant does not stop another’s', async () => {
  const loud = await connectAgain()
  let go = true
  const flood = (async () => {
    while (go) {
      for (let n = 0; n < 50; n++) loud.connection.publish('req.echo.say', encode('{}'))
      await loud.connection.flush()
    }
  })()
  for (let n = 0; n < 50; n++) await neighbourIsServed()
  go = false
  await flood
  await loud.connection.close()
}, 60_000)

/** The server frees a closed connection's place a moment later. */
async function connectAgain(): Promise<Messaging> {
  for (;;) {
    try {
      return await nats.connect({ credentials: LOUD, connectWithinMs: 1 })
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
}

/** What the server says to a client that keeps no limit by itself, up to its first error. */
async function rawly(commands: string): Promise<string> {
  const socket = createConnection({ host: '127.0.0.1', port: nats.port })
  const login = { user: LOUD.user, pass: LOUD.password, verbose: false, pedantic: false, protocol: 1 }
  socket.write(`CONNECT ${JSON.stringify(login)}\r\n${commands}PING\r\n`)
  let said = ''
  for await (const chunk of socket) {
    said += chunk
    if (said.includes('-ERR') || said.includes('PONG')) break
  }
  socket.destroy()
  return said
}
