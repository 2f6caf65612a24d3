import 'reflect-metadata'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { Controller, type INestMicroservice, Module } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices'
import { Rejected, SandtrailError } from '#libs/domain'
import type { MessageContext } from './context.js'
import { ErrorsPassThrough } from './error-filter.js'
import { commandHeaders } from './headers.js'
import { JetStreamServer } from './jetstream-server.js'
import type { JsonObject } from './json.js'
import type { Messaging } from './messaging.js'
import { eventually, startNats, type TestNats } from './testing.js'

const heard: string[] = []
const [released, second] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
const tooLarge = 'x'.repeat(1024 ** 2)

@Controller()
class EchoController {
  @MessagePattern({ request: 'v1.*.req.echo.*' })
  async answer(@Payload() body: JsonObject, @Ctx() context: MessageContext) {
    if (body.reject) throw new Rejected('NAME_TAKEN', 'this name is taken', { hint: 'choose another' })
    if (body.fail) throw new SandtrailError('NO_CAPACITY', 'no worker has room')
    if (body.crash) throw new TypeError('password=hunter2')
    if (body.grow) return { tooLarge }
    const { tenant, commandId, actor, traceparent, expiresAt } = context
    return { body, tenant, commandId, actor, traceparent, expiresAt }
  }

  @MessagePattern({ request: 'v1.*.req.patient.*', concurrency: 1 })
  async wait(@Payload() { n }: JsonObject, @Ctx() { release }: MessageContext) {
    if (n === 1) {
      release?.()
      released.resolve()
      await second.promise
    } else second.resolve()
    return { n }
  }

  @EventPattern({ event: 'v1.*.evt.sandbox.>' })
  onEvent(@Payload() body: JsonObject) {
    heard.push(String(body.n))
    if (body.n === 1) throw new Error('not handled')
  }
}

@Module({ controllers: [EchoController] })
class EchoModule {}

let nats: TestNats
let messaging: Messaging
let app: INestMicroservice

beforeAll(async () => {
  nats = await startNats()
  messaging = await nats.connect()
  const strategy = new JetStreamServer({ messaging: await nats.connect(), name: 'echo' })
  app = await NestFactory.createMicroservice(EchoModule, { strategy, logger: false })
  app.useGlobalFilters(new ErrorsPassThrough())
  await app.listen()
})

afterAll(async () => {
  await app?.close()
  await nats?.close()
})

const ask = (body: object, headers = {}) => messaging.request('v1.acme.req.echo.say', body, { headers })

test('a request is answered with what its handler returns, and knows who asked', async () => {
  const expiresAt = new Date('2026-12-01T00:00:00Z')
  const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`
  const headers = commandHeaders({ commandId: 'command-1', expiresAt, actor: 'token:ci', traceparent })
  expect(await ask({ hello: 'world' }, headers)).toEqual({
    ok: true,
    body: { hello: 'world' },
    tenant: 'acme',
    commandId: 'command-1',
    actor: 'token:ci',
    traceparent,
    expiresAt: expiresAt.toISOString(),
  })
})

test('a refusal comes back as the same refusal', async () => {
  const refusal = await ask({ reject: true }).catch((error) => error)
  expect(refusal).toBeInstanceOf(Rejected)
  expect(refusal).toMatchObject({ code: 'NAME_TAKEN', message: 'this name is taken', hint: 'choose another' })
})

test('trouble that may pass comes back as retryable', async () => {
  await expect(ask({ fail: true })).rejects.toMatchObject({ code: 'NO_CAPACITY', retryable: true })
})

test('a fault of the service comes back without its text, which may hold a secret', async () => {
  const error = await ask({ crash: true }).catch((e) => e)
  expect(error).toMatchObject({ code: 'INTERNAL' })
  expect(String(error)).not.toContain('hunter2')
})

test('a request that only waits holds no place, and is answered all the same', async () => {
  const waiting = messaging.request('v1.acme.req.patient.wait', { n: 1 })
  await released.promise
  expect(await messaging.request('v1.acme.req.patient.wait', { n: 2 })).toEqual({ ok: true, n: 2 })
  expect(await waiting).toEqual({ ok: true, n: 1 })
})

test('a reply above 1 MiB becomes a coded error', async () => {
  await expect(ask({ grow: true })).rejects.toMatchObject({ code: 'PAYLOAD_TOO_LARGE' })
})

test('a request above 1 MiB is refused before it is sent', async () => {
  await expect(ask({ tooLarge })).rejects.toMatchObject({ code: 'PAYLOAD_TOO_LARGE' })
})

test('a subject that nobody serves answers UNAVAILABLE at once', async () => {
  const started = performance.now()
  const request = messaging.request('v1.acme.req.nobody.home', {}, { timeoutMs: 10_000 })
  await expect(request).rejects.toMatchObject({ code: 'UNAVAILABLE', retryable: true })
  expect(performance.now() - started).toBeLessThan(5_000)
})

for (const [what, bytes] of Object.entries({
  'invalid UTF-8': Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d),
  'no JSON': new TextEncoder().encode('{"secret": hunter2}'),
  'a list': new TextEncoder().encode('[1]'),
  'a prototype': new TextEncoder().encode('{"__proto__": {"admin": true}}'),
  '65 levels': new TextEncoder().encode(`${'{"a":'.repeat(65)}1${'}'.repeat(65)}`),
})) {
  test(`a body that is ${what} is refused with a code and not repeated`, async () => {
    const reply = await messaging.connection.request('v1.acme.req.echo.say', bytes)
    const { error } = reply.json() as { error: { code: string; message: string } }
    expect(error.code).toBe('INVALID_ARGUMENT')
    expect(error.message).not.toContain('hunter2')
  })
}

test('a damaged header is refused', async () => {
  for (const headers of [{ 'Sandtrail-Command-Id': 'a..b.c.d.e' }, { 'Sandtrail-Expires-At': 'tomorrow' }]) {
    await expect(ask({}, headers)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  }
})

test('headers without end are refused unread', async () => {
  const many = Object.fromEntries(Array.from({ length: 1_000 }, (_, i) => [`X-${i}`, 'x']))
  await expect(ask({}, many)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', hint: expect.any(String) })
})

test('a request whose reply would go to a subject that is no inbox is not answered', async () => {
  const seen: string[] = []
  messaging.subscribe('v1.acme.cmd.>', (_, context) => void seen.push(context.subject))
  const payload = new TextEncoder().encode('{}')
  messaging.connection.publish('v1.acme.req.echo.say', payload, { reply: 'v1.acme.cmd.sandbox.create' })
  await ask({}) // Answered after the one above, for both come on one connection.
  await messaging.connection.flush()
  expect(seen).toEqual([])
})

test('an event reaches its handler, also after one that could not be handled', async () => {
  messaging.publish('v1.acme.evt.sandbox.sb-1.SandboxStarted', { n: 1 })
  messaging.publish('v1.acme.evt.sandbox.sb-1.SandboxFinished', { n: 2 })
  await eventually(() => heard.length === 2)
  expect(heard).toEqual(['1', '2'])
})

test('wrong credentials are refused at once, with a code', async () => {
  const wrong = { user: 'platform', password: 'not-the-password-it-has' }
  await expect(nats.connect({ credentials: wrong })).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
})
