/** TLS with a real broker: who is trusted, and what is said to who is not. */

import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect as connectTcp } from 'node:net'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { peerExpiry } from '../tls/index.js'
import { createAuthority } from '../tls/testing.js'
import type { Credentials } from './connection.js'
import { startNats, type TestNats } from './testing.js'

const authority = createAuthority()
const ca = readFileSync(authority.caFile, 'utf8')
const credentials: Credentials = { user: 'platform', password: 'platform-password-for-tests' }
let broker: TestNats
let plain: TestNats

beforeAll(async () => {
  const tls = authority.issue('broker', { days: 20 })
  ;[broker, plain] = await Promise.all([startNats({ tls }), startNats()])
}, 30_000)
afterAll(async () => {
  await Promise.all([broker?.close(), plain?.close()])
  authority.close()
})

const connectTo = (servers: string, tls: { ca?: string } = { ca }) =>
  broker.connect({ servers, credentials, tls })

test('a client that knows the authority is served, by address and by name', async () => {
  for (const host of ['127.0.0.1', 'localhost']) {
    const messaging = await connectTo(`tls://${host}:${broker.port}`)
    await messaging.connection.flush()
    await messaging.close()
  }
})

test('a broker of an unknown authority, with another name or an old certificate is refused at once, in words', async () => {
  const tls = `tls://127.0.0.1:${broker.port}`
  const refusal = (text: string) => ({ code: 'TLS_FAILED', message: expect.stringContaining(text) })
  await expect(connectTo(tls, {})).rejects.toMatchObject(refusal('authority'))
  const other = await startNats({ tls: authority.issue('other', { names: ['localhost', '10.9.8.7'] }) })
  await expect(connectTo(`tls://127.0.0.1:${other.port}`)).rejects.toMatchObject(refusal('another name'))
  await other.close()
  const old = await startNats({ tls: authority.issue('old', { days: -1 }) })
  await expect(connectTo(`tls://localhost:${old.port}`)).rejects.toMatchObject(refusal('expired'))
  await old.close()
}, 60_000)

test('one side without TLS: each way it is said which', async () => {
  await expect(connectTo(`tls://127.0.0.1:${plain.port}`)).rejects.toMatchObject({
    code: 'TLS_FAILED',
    message: expect.stringContaining('speaks no TLS'),
  })
  await expect(connectTo(`nats://127.0.0.1:${broker.port}`)).rejects.toMatchObject({
    code: 'TLS_FAILED',
    hint: expect.stringContaining('tls://'),
  })
  // Whoever sends a password in plaintext is cut off before it counts.
  const socket = connectTcp(broker.port, '127.0.0.1')
  let said = ''
  socket.on('data', (chunk) => {
    said += chunk.toString('latin1')
  })
  socket.on('error', () => {})
  const { user, password } = credentials as { user: string; password: string }
  socket.write(`CONNECT ${JSON.stringify({ user, pass: password, verbose: false })}\r\nPING\r\n`)
  await once(socket, 'close')
  expect(said).toContain('tls_required')
  expect(said).not.toContain('PONG')
})

test('a renewed certificate is in use after a reload, and clients stay', async () => {
  const messaging = await connectTo(`tls://127.0.0.1:${broker.port}`)
  const peer = { protocol: 'nats', host: '127.0.0.1', port: broker.port } as const
  const before = await peerExpiry(peer)
  await broker.reload({ tls: authority.issue('broker', { days: 30 }) })
  expect((await peerExpiry(peer)).getTime() - before.getTime()).toBeGreaterThan(9 * 24 * 3_600_000)
  await messaging.connection.flush()
  expect(messaging.connection.stats().outMsgs).toBeDefined()
  await messaging.close()
})
