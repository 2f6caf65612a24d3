import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { makeId, type SandboxEvent } from '#libs/domain'
import { Projector, sandboxesProjection } from '#libs/event-store'
import { subjects } from '#libs/messaging'
import { placeAll } from '../../libs/event-store/testing-ledger.js'
import { CONTROLLERS } from './gateway.module.js'
import { openApi, ROUTES } from './http/openapi.js'
import { startTestGateway, type TestGateway, WORKER } from './testing.js'

let gateway: TestGateway
beforeAll(async () => {
  gateway = await startTestGateway()
}, 60_000)
afterAll(() => gateway?.stop())

const started: SandboxEvent = {
  type: 'SandboxStarted',
  typeVersion: 1,
  data: { workerId: WORKER, epoch: 1, volumes: [] },
}
const finished = (exitCode: number): SandboxEvent => ({
  type: 'SandboxFinished',
  typeVersion: 1,
  data: { exitCode, signal: null, staged: [] },
})
const summary = (text: string) => ({
  bytes: text.length,
  droppedBytes: 0,
  sha256: createHash('sha256').update(text).digest('hex'),
})
const exited = (stdout: string) => ({
  type: 'ExecExited' as const,
  typeVersion: 1,
  data: { exitCode: 7, signal: null, reason: 'exit' as const, stdout: summary(stdout), stderr: summary('') },
})
const create = async (body: object = {}): Promise<string> =>
  (await gateway.ask('POST', '/v1/sandboxes', body)).body.sandboxId
const exec = async (sandboxId: string, body: object = {}): Promise<string> => {
  const answer = await gateway.ask('POST', `/v1/sandboxes/${sandboxId}/execs`, { argv: ['true'], ...body })
  return answer.body.execId
}

describe('who may call', () => {
  test.each([
    ['GET', '/v1/workers'],
    ['GET', `/v1/workers/${WORKER}`],
    ['GET', `/v1/workers/${WORKER}/history`],
    ['POST', `/v1/workers/${WORKER}/cordon`],
    ['POST', `/v1/workers/${WORKER}/uncordon`],
    ['POST', `/v1/workers/${WORKER}/drain`],
    ['GET', '/v1/dead-letters'],
    ['GET', '/v1/dead-letters/1'],
    ['POST', '/v1/dead-letters/1/redrive'],
    ['DELETE', '/v1/dead-letters/1'],
  ])('%s %s is for operators alone', async (method, path) => {
    expect(await gateway.ask(method, path)).toMatchObject({
      status: 403,
      body: { error: { code: 'PERMISSION_DENIED' } },
    })
  })

  test.each([
    ['no token', {}],
    ['another scheme', { authorization: 'Basic abc' }],
    ['an unknown token', { authorization: `Bearer st_ak-${'a'.repeat(16)}_as-${'b'.repeat(32)}` }],
  ])('%s is refused with 401', async (_, headers) => {
    const response = await fetch(new URL('/v1/sandboxes', gateway.url), { headers })
    expect(response.status).toBe(401)
    expect(await response.json()).toMatchObject({ error: { code: 'UNAUTHENTICATED', retryable: false } })
  })

  test('probes and the description need no token', async () => {
    for (const path of ['/livez', '/readyz', '/openapi.json']) {
      expect((await fetch(new URL(path, gateway.url))).status).toBe(200)
    }
  })

  test('a token is made, works, is listed without its secret, and is refused once it is revoked', async () => {
    const { body: made } = await gateway.ask('POST', '/v1/tokens', { name: 'ci' })
    const headers = { authorization: `Bearer ${made.token}` }
    expect(await gateway.ask('GET', '/v1/whoami', undefined, headers)).toMatchObject({
      body: { tenant: 'acme', tokenId: made.id },
    })
    const { body: list } = await gateway.ask('GET', '/v1/tokens')
    expect(JSON.stringify(list)).toContain(made.id)
    expect(JSON.stringify(list)).not.toContain(made.token.split('_as-')[1])
    await gateway.ask('DELETE', `/v1/tokens/${made.id}`)
    expect((await gateway.ask('GET', '/v1/whoami', undefined, headers)).status).toBe(401)
  })

  test("another tenant's sandbox looks like none", async () => {
    const id = await create()
    const headers = { authorization: `Bearer ${await gateway.anotherTenantsToken()}` }
    for (const path of ['', '/history', '/wait?timeoutMs=0', '/logs']) {
      const answer = await gateway.ask('GET', `/v1/sandboxes/${id}${path}`, undefined, headers)
      expect(answer).toMatchObject({ status: 404, body: { error: { code: 'SANDBOX_NOT_FOUND' } } })
    }
  })
})

describe('what is refused', () => {
  test('an expectation that nobody can meet is told with a code', async () => {
    const request = httpRequest(new URL('/livez', gateway.url), { headers: { expect: 'websocket' } })
    request.end()
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    expect(response.statusCode).toBe(400)
    expect(JSON.parse(await text(response))).toMatchObject({ error: { code: 'INVALID_ARGUMENT' } })
  })

  test.each([
    ['a misspelt field', { imagee: 'x' }, 'unknown field imagee'],
    [
      'a misspelt field deep inside',
      { volumes: [{ volume: 'v', path: '/v', ro: true }] },
      'unknown field volumes.0.ro',
    ],
    ['a bad value', { timeoutMs: -1 }, 'timeoutMs:'],
  ])('%s is named', async (_, body, message) => {
    const answer = await gateway.ask('POST', '/v1/sandboxes', body)
    expect(answer).toMatchObject({ status: 400, body: { error: { code: 'INVALID_ARGUMENT' } } })
    expect(answer.body.error.message).toContain(message)
  })

  test('a misspelt query, a bad body, a big body and an unknown route are coded errors', async () => {
    expect(await gateway.ask('GET', '/v1/sandboxes?stat=x')).toMatchObject({ status: 400 })
    expect(await gateway.ask('GET', '/v1/nothing')).toMatchObject({
      status: 404,
      body: { error: { code: 'NOT_FOUND' } },
    })
    const post = (body: string) =>
      fetch(new URL('/v1/sandboxes', gateway.url), {
        method: 'POST',
        body,
        headers: { authorization: `Bearer ${gateway.token}`, 'content-type': 'application/json' },
      })
    const damaged = await post('{')
    expect([damaged.status, await damaged.json()]).toMatchObject([
      400,
      { error: { code: 'INVALID_ARGUMENT' } },
    ])
    const big = await post(JSON.stringify({ name: 'x'.repeat(2 ** 20) }))
    expect([big.status, await big.json()]).toMatchObject([413, { error: { code: 'PAYLOAD_TOO_LARGE' } }])
  })

  test.each([
    ['a key __proto__', '{"env":{"__proto__":"x"}}'],
    ['bytes that are not UTF-8', Buffer.from('{"tags":{"a":"\xff"}}', 'latin1')],
    ['65 levels', `${'{"env":'.repeat(65)}1${'}'.repeat(65)}`],
  ])('a body with %s is refused, not half understood', async (_, body) => {
    const answer = await fetch(new URL('/v1/sandboxes', gateway.url), {
      method: 'POST',
      body,
      headers: { authorization: `Bearer ${gateway.token}`, 'content-type': 'application/json' },
    })
    expect([answer.status, await answer.json()]).toMatchObject([400, { error: { code: 'INVALID_ARGUMENT' } }])
  })

  test.each([
    '/v1/sandboxes/%00',
    '/v1/images/%00',
    '/v1/streams/%00/events',
    '/v1/sandboxes?name=%00',
    '/v1/sandboxes?tag=a%3D%00',
    '/v1/sandboxes?cursor=%00',
  ])('%s is the fault of the caller', async (path) => {
    expect(await gateway.ask('GET', path)).toMatchObject({
      status: 400,
      body: { error: { code: 'INVALID_ARGUMENT' } },
    })
  })

  test.each([
    ['/v1/sandboxes?cursor=x', 'cursor: must be an id like sb-01J…'],
    ['/v1/sandboxes?limit=1e9', 'limit: must be a whole number'],
    ['/v1/sandboxes?limit=0', 'limit: must be at least 1'],
    ['/v1/events?after=-1', 'after: must be a whole number'],
    ['/v1/events?after=9007199254740993', 'after: must be at most 9007199254740991'],
  ])('%s: a place that cannot be read is not taken for another', async (path, message) => {
    expect(await gateway.ask('GET', path)).toMatchObject({
      status: 400,
      body: { error: { code: 'INVALID_ARGUMENT', message } },
    })
  })

  test.each(['x', '-1', '1e9', '12345678901234567890'])(
    'a stream does not begin at Last-Event-ID %s',
    async (id) => {
      const headers = { accept: 'text/event-stream', 'last-event-id': id }
      expect(await gateway.ask('GET', '/v1/events', undefined, headers)).toMatchObject({
        status: 400,
        body: {
          error: { code: 'INVALID_ARGUMENT', message: expect.stringContaining('Last-Event-ID: must be') },
        },
      })
    },
  )

  test.each([
    [
      'application/x-www-form-urlencoded',
      'no route reads a body of type "application/x-www-form-urlencoded"',
    ],
    ['text/plain', 'no route reads a body of type "text/plain"'],
    ['application/octet-stream', 'the body: is missing'],
  ])('JSON that is called %s is refused, and the hint says how to send it', async (type, message) => {
    const answer = await fetch(new URL('/v1/sandboxes', gateway.url), {
      method: 'POST',
      body: '{"name":"curl"}',
      headers: { authorization: `Bearer ${gateway.token}`, 'content-type': type },
    })
    expect([answer.status, await answer.json()]).toMatchObject([
      400,
      { error: { message, hint: expect.stringContaining('application/json') } },
    ])
  })

  test('a service that is not there is told at once', async () => {
    const startedMs = performance.now()
    expect(await gateway.ask('POST', '/v1/volumes', { name: 'v' })).toMatchObject({
      status: 503,
      body: { error: { code: 'UNAVAILABLE', retryable: true } },
    })
    expect(performance.now() - startedMs).toBeLessThan(2_000)
  })
})

describe('sandboxes', () => {
  test('a request sent again with its key has one effect, with another body it is refused', async () => {
    const key = { 'idempotency-key': 'key-0000001' }
    const first = await gateway.ask('POST', '/v1/sandboxes', { tags: { a: 'b' } }, key)
    expect(first.status).toBe(201)
    expect(await gateway.ask('POST', '/v1/sandboxes', { tags: { a: 'b' } }, key)).toEqual(first)
    expect(await gateway.ask('POST', '/v1/sandboxes', {}, key)).toMatchObject({
      status: 409,
      body: { error: { code: 'COMMAND_ID_REUSED' } },
    })
  })

  test('a sandbox is found by id, unique prefix and live name', async () => {
    const id = await create({ name: 'web' })
    expect((await gateway.ask('GET', `/v1/sandboxes/${id}`)).body).toMatchObject({
      sandboxId: id,
      state: 'starting',
    })
    expect((await gateway.ask('GET', '/v1/sandboxes/web')).body.sandboxId).toBe(id)
    // The list of ids follows the ledger; no sequencer runs here.
    await gateway.db.pool.query(
      `insert into sandboxes (sandbox_id, tenant, state, tags, image_id, image_ref, created_at, position)
       values ($1, 'acme', 'starting', '{}', 'im', 'base', now(), 1)`,
      [id],
    )
    expect((await gateway.ask('GET', `/v1/sandboxes/${id.slice(0, 28)}`)).body.sandboxId).toBe(id)
    expect((await gateway.ask('GET', '/v1/sandboxes?state=starting')).body.sandboxes).toMatchObject([
      { sandboxId: id },
    ])
  })

  test('a list asked for right after a create has it', async () => {
    const projector = new Projector(gateway.db.pool, sandboxesProjection)
    const id = await create({ tags: { fresh: 'yes' } })
    const listing = gateway.ask('GET', '/v1/sandboxes?tag=fresh=yes')
    // Another test has put a row there by hand.
    await gateway.db.pool.query('delete from sandboxes')
    await placeAll(gateway.db.pool)
    projector.start()
    expect((await listing).body.sandboxes).toMatchObject([{ sandboxId: id }])
    await projector.stop()
  })

  test('wait answers within moments of the commit, or with the state when the time is up', async () => {
    const id = await create()
    expect((await gateway.ask('GET', `/v1/sandboxes/${id}/wait?timeoutMs=0`)).body.state).toBe('starting')
    const waiting = gateway.ask('GET', `/v1/sandboxes/${id}/wait`)
    await gateway.sandboxEvents(id, [started])
    await gateway.sandboxEvents(id, [finished(3)])
    expect((await waiting).body).toMatchObject({
      state: 'ended',
      exitCode: 3,
      terminalEvent: 'SandboxFinished',
    })
  })

  test('the history has every event, and --at the state that they told then', async () => {
    const id = await create()
    await gateway.sandboxEvents(id, [started])
    await gateway.sandboxEvents(id, [finished(0)])
    const { events } = (await gateway.ask('GET', `/v1/sandboxes/${id}/history`)).body
    expect(events.map(({ type }: { type: string }) => type)).toEqual([
      'SandboxCreated',
      'SandboxPlaced',
      'SandboxStarted',
      'SandboxFinished',
    ])
    expect(events[0]).toMatchObject({
      position: null,
      actor: expect.stringMatching(/^token:ak-/),
      version: 1,
    })
    const at = encodeURIComponent(events[0].time)
    expect((await gateway.ask('GET', `/v1/sandboxes/${id}?at=${at}`)).body.state).toBe('starting')
    const now = encodeURIComponent(events[3].time)
    const { sandboxes } = (await gateway.ask('GET', `/v1/fleet?at=${now}`)).body
    expect(sandboxes.find((one: { sandboxId: string }) => one.sandboxId === id)).toMatchObject({
      state: 'ended',
    })
    expect(await gateway.ask('GET', `/v1/sandboxes/${id}?at=2020-01-01`)).toMatchObject({ status: 404 })
  })
})

describe('execs', () => {
  test('one call starts a program and waits for its end', async () => {
    const sandboxId = await create()
    const answer = gateway.ask('POST', `/v1/sandboxes/${sandboxId}/execs`, { argv: ['true'], waitMs: 10_000 })
    const execId = await firstExecOf(sandboxId)
    await gateway.execEvents(execId, [{ type: 'ExecStarted', typeVersion: 1, data: { pid: 2 } }, exited('')])
    expect(await answer).toMatchObject({
      status: 201,
      body: { execId, exec: { exitCode: 7, state: 'ended' } },
    })
  })

  test("a sandbox's execs and the beginning of an id are found by an index", async () => {
    const sandboxId = await create()
    const execId = await exec(sandboxId)
    expect((await gateway.ask('GET', `/v1/execs/${execId.slice(0, 28)}`)).body).toMatchObject({ execId })
    expect((await gateway.ask('GET', `/v1/sandboxes/${sandboxId}/execs`)).body.execs).toMatchObject([
      { execId },
    ])
    const { rows } = await gateway.db.pool.query(
      `explain select stream from events where type = 'ExecRequested' and stream like $1 || '%'`,
      [execId.slice(0, 28)],
    )
    expect(JSON.stringify(rows)).toContain('Index')
  })

  test('an answer to a wait comes with the event, not with the slow look behind it', async () => {
    const sandboxId = await create()
    const took: number[] = []
    for (let i = 0; i < 20; i++) {
      const execId = await exec(sandboxId)
      const waiting = gateway.ask('GET', `/v1/execs/${execId}/wait`)
      await waiterOf(execId)
      await gateway.execEvents(execId, [exited('')])
      const committedMs = performance.now()
      await waiting
      took.push(performance.now() - committedMs)
    }
    took.sort((a, b) => a - b)
    console.info(`wait after commit: median ${took[10]!.toFixed(1)} ms, most ${took[19]!.toFixed(1)} ms`)
    // By the event, not by the look at the stream that stands 2 s behind it.
    expect(took[10]).toBeLessThan(1_500)
  })

  test("output is the worker's bytes, asked for with a token for this sandbox", async () => {
    const sandboxId = await create()
    const execId = await exec(sandboxId)
    const bytes = Buffer.from([0, 255, 10, 13, 128])
    gateway.serve((request, response) => {
      expect(request.url).toBe(`/v1/sandboxes/${sandboxId}/execs/${execId}/output/stdout?offset=3&follow=1`)
      const claims = request.headers.authorization!.split('.')[1]!
      expect(JSON.parse(Buffer.from(claims, 'base64url').toString())).toMatchObject({
        sub: sandboxId,
        aud: WORKER,
      })
      response.writeHead(200, { 'sandtrail-offset': '3', 'sandtrail-end': '1' }).end(bytes)
    })
    const response = await fetch(
      new URL(`/v1/execs/${execId}/output/stdout?offset=3&follow=1`, gateway.url),
      {
        headers: { authorization: `Bearer ${gateway.token}` },
      },
    )
    expect(response.headers.get('sandtrail-offset')).toBe('3')
    expect(response.headers.get('sandtrail-end')).toBe('1')
    expect(Buffer.from(await response.arrayBuffer())).toEqual(bytes)
  })

  test('a stream that breaks at the worker breaks at the caller: it never looks whole', async () => {
    const execId = await exec(await create())
    gateway.serve((_request, response) => {
      response.writeHead(200).write('half')
      setImmediate(() => response.destroy())
    })
    const response = await fetch(new URL(`/v1/execs/${execId}/output/stdout?follow=1`, gateway.url), {
      headers: { authorization: `Bearer ${gateway.token}` },
    })
    await expect(response.text()).rejects.toThrow()
  })

  test('bytes that are gone are told with the offset to go on from', async () => {
    const execId = await exec(await create())
    const error = { code: 'OUTPUT_DROPPED', message: 'gone', hint: null, retryable: false }
    gateway.serve((_request, response) => {
      response.writeHead(410).end(JSON.stringify({ error, firstOffset: 42 }))
    })
    expect(await gateway.ask('GET', `/v1/execs/${execId}/output/stdout`)).toMatchObject({
      status: 410,
      body: { error: { code: 'OUTPUT_DROPPED' }, firstOffset: 42 },
    })
  })

  test('stdin goes to the worker byte for byte, and its answer comes back', async () => {
    const execId = await exec(await create(), { stdin: 'open' })
    const sent = Buffer.alloc(600_000, 'abc')
    gateway.serve((request, response) => {
      const got: Buffer[] = []
      request.on('data', (chunk) => got.push(chunk))
      request.on('end', () => {
        expect(Buffer.concat(got).equals(sent)).toBe(true)
        expect(request.url).toMatch(/stdin\?offset=5&eof=1$/)
        response.end(JSON.stringify({ acceptedTo: 5 + sent.length }))
      })
    })
    const response = await fetch(new URL(`/v1/execs/${execId}/stdin?offset=5&eof=1`, gateway.url), {
      method: 'PUT',
      body: sent,
      headers: { authorization: `Bearer ${gateway.token}`, 'content-type': 'application/octet-stream' },
    })
    expect(await response.json()).toEqual({ acceptedTo: 600_005 })
  })

  test('stdin and size of a main process go to the worker once the sandbox has started', async () => {
    const pty = { rows: 24, cols: 80 }
    const appId = `ap-${'0'.repeat(26)}`
    const id = await create({ command: ['sh'], stdin: 'open', pty, appId })
    expect((await gateway.ask('GET', `/v1/sandboxes/${id}`)).body).toMatchObject({
      appId,
      stdin: 'open',
      pty,
    })
    const asked: string[] = []
    gateway.serve((request, response) => {
      asked.push(`${request.method} ${request.url}`)
      request.resume()
      request.on('end', () => response.end(JSON.stringify({ acceptedTo: 5 })))
    })
    const writing = fetch(new URL(`/v1/sandboxes/${id}/stdin?eof=1`, gateway.url), {
      method: 'PUT',
      body: 'hello',
      headers: { authorization: `Bearer ${gateway.token}`, 'content-type': 'application/octet-stream' },
    })
    const resizing = gateway.ask('POST', `/v1/sandboxes/${id}/resize`, { rows: 50, cols: 132 })
    await gateway.sandboxEvents(id, [started])
    expect(await (await writing).json()).toEqual({ acceptedTo: 5 })
    expect((await resizing).status).toBe(200)
    expect(asked.sort()).toEqual([
      `POST /v1/sandboxes/${id}/execs/main/resize`,
      `PUT /v1/sandboxes/${id}/execs/main/stdin?offset=0&eof=1`,
    ])
  })

  test('a main process without an open stdin, or without a terminal, is told of', async () => {
    const id = await create({ command: ['sh'] })
    const refused = { status: 400, body: { error: { code: 'INVALID_ARGUMENT' } } }
    const bytes = { 'content-type': 'application/octet-stream' }
    expect(await gateway.ask('PUT', `/v1/sandboxes/${id}/stdin`, undefined, bytes)).toMatchObject(refused)
    const size = { rows: 50, cols: 132 }
    expect(await gateway.ask('POST', `/v1/sandboxes/${id}/resize`, size)).toMatchObject(refused)
  })

  test('the end of stdin goes there without a byte', async () => {
    const execId = await exec(await create(), { stdin: 'open' })
    gateway.serve((request, response) => {
      request.resume()
      request.on('end', () => response.end(JSON.stringify({ acceptedTo: 9 })))
    })
    for (let i = 0; i < 3; i++) {
      const response = await fetch(new URL(`/v1/execs/${execId}/stdin?offset=9&eof=1`, gateway.url), {
        method: 'PUT',
        body: new Uint8Array(),
        headers: { authorization: `Bearer ${gateway.token}`, 'content-type': 'application/octet-stream' },
      })
      expect([response.status, await response.json()]).toEqual([200, { acceptedTo: 9 }])
    }
  })

  test('a worker that refuses before it has read the body is heard', async () => {
    const execId = await exec(await create(), { stdin: 'open' })
    const error = { code: 'EXEC_ENDED', message: 'over', hint: null, retryable: false }
    gateway.serve((_request, response) => {
      response.writeHead(409, { connection: 'close' }).end(JSON.stringify({ error }))
    })
    const response = await fetch(new URL(`/v1/execs/${execId}/stdin`, gateway.url), {
      method: 'PUT',
      body: Buffer.alloc(8 * 2 ** 20),
      headers: { authorization: `Bearer ${gateway.token}`, 'content-type': 'application/octet-stream' },
    })
    expect([response.status, await response.json()]).toMatchObject([409, { error: { code: 'EXEC_ENDED' } }])
  })

  test('a worker with another certificate is not believed', async () => {
    const execId = await exec(await create())
    const { rows } = await gateway.db.pool.query('select info from workers')
    // A certificate that parses, of somebody else.
    const other = (await import('node:tls')).rootCertificates[0]!
    await gateway.db.pool.query('update workers set info = info || $1', [{ certificate: other }])
    await expireAddress()
    expect(await gateway.ask('GET', `/v1/execs/${execId}/output/stdout`)).toMatchObject({ status: 503 })
    await gateway.db.pool.query('update workers set info = $1', [rows[0].info])
  })
})

describe('reads over NATS', () => {
  const read = async (aggregate: string, verb: string, body: object) => {
    const client = await gateway.nats.connect()
    return await client.request(subjects.request('acme', aggregate, verb), body)
  }

  test('state, end and output of an exec', async () => {
    const sandboxId = await create()
    const execId = await exec(sandboxId)
    expect(await read('sandbox', 'get', { sandboxId })).toMatchObject({
      sandbox: { sandboxId, state: 'starting' },
    })
    gateway.serve((_request, response) => response.writeHead(200, { 'sandtrail-offset': '0' }).end('42\n'))
    const waiting = read('exec', 'wait', { execId })
    await gateway.execEvents(execId, [exited('42\n')])
    expect(await waiting).toMatchObject({ exec: { execId, exitCode: 7 } })
    expect(await read('exec', 'output', { execId, stream: 'stdout' })).toMatchObject({
      dataBase64: Buffer.from('42\n').toString('base64'),
      offset: 0,
      end: true,
    })
  })

  test('a bad field is named', async () => {
    await expect(
      read('exec', 'output', { execId: makeId('ex', 1, Buffer.alloc(10)), stream: 'x' }),
    ).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    await expect(read('events', 'read', { types: ['Nonsense'] })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    })
    for (const [verb, body] of [
      ['get', { sandboxId: '\0' }],
      ['list', { name: '\0' }],
      ['list', { tags: { '\0': 'x' } }],
      ['list', { tags: { a: '\0' } }],
      ['list', { cursor: '\0' }],
    ] as const) {
      await expect(read('sandbox', verb, body)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    }
  })
})

describe('the feed of events', () => {
  const typesOf = (events: { type: string }[]) => events.map(({ type }) => type)

  test('pages go on where the last one ended, and types may be patterns', async () => {
    const id = await create()
    await gateway.sandboxEvents(id, [started])
    await placeAll(gateway.db.pool)
    const { body: first } = await gateway.ask('GET', '/v1/events?type=sandbox.*&limit=2')
    const { body: second } = await gateway.ask('GET', `/v1/events?type=sandbox.*&limit=1&after=${first.next}`)
    expect(second.events[0].position).toBeGreaterThan(first.events[1].position)
    const { body: all } = await gateway.ask('GET', '/v1/events?type=SandboxSt*&limit=1000')
    expect(new Set(typesOf(all.events))).toEqual(new Set(['SandboxStarted']))
    expect(await gateway.ask('GET', '/v1/events?type=SandboxStared')).toMatchObject({ status: 400 })
  })

  test("a follower hears what comes, takes up where it was, and nothing of another tenant's", async () => {
    const foreign = { authorization: `Bearer ${await gateway.anotherTenantsToken()}` }
    expect((await gateway.ask('GET', '/v1/events?limit=1000', undefined, foreign)).body.events).toEqual([])
    const follow = async (lastEventId?: number) => {
      const leave = new AbortController()
      const response = await fetch(new URL('/v1/events?type=SandboxCreated', gateway.url), {
        signal: leave.signal,
        headers: {
          authorization: `Bearer ${gateway.token}`,
          accept: 'text/event-stream',
          ...(lastEventId === undefined ? {} : { 'last-event-id': String(lastEventId) }),
        },
      })
      return { leave, reader: response.body!.pipeThrough(new TextDecoderStream()).getReader() }
    }
    const next = async ({ reader }: Awaited<ReturnType<typeof follow>>) => {
      let text = ''
      while (!text.includes('data: ')) text += (await reader.read()).value
      return JSON.parse(/^data: (.*)$/m.exec(text)![1]!)
    }
    const first = await follow()
    const id = await create()
    await placeAll(gateway.db.pool)
    const heard = await next(first)
    expect(heard).toMatchObject({ type: 'SandboxCreated', stream: id })
    first.leave.abort()
    const again = await follow(heard.position - 1)
    expect(await next(again)).toEqual(heard)
    again.leave.abort()
  })
})

test('the OpenAPI document has every route, and no other', () => {
  const PATH = 'path'
  const METHODS = ['GET', 'POST', 'PUT', 'DELETE', 'PATCH']
  const served = CONTROLLERS.flatMap((controller) => {
    const base = Reflect.getMetadata(PATH, controller) as string
    return Object.getOwnPropertyNames(controller.prototype).flatMap((name) => {
      const handler = (controller.prototype as unknown as Record<string, object>)[name]!
      const path = Reflect.getMetadata(PATH, handler) as string | undefined
      if (path === undefined || name === 'constructor') return []
      const full = [base, path].filter((part) => part !== '/' && part !== '').join('/')
      return [
        `${METHODS[Reflect.getMetadata('method', handler) as number]} /${full.replace(/:(\w+)/g, '{$1}')}`,
      ]
    })
  })
  expect(served.sort()).toEqual(Object.keys(ROUTES).sort())
  expect(JSON.stringify(openApi())).toContain('"openapi":"3.1.0"')
})

describe('health for an operator', () => {
  async function wrong(): Promise<Record<string, string>> {
    const authorization = `Bearer ${await gateway.operatorsToken()}`
    const { body } = await gateway.ask('GET', '/v1/health', undefined, { authorization })
    const failing = body.checks.filter(({ ok }: { ok: boolean }) => !ok)
    for (const { hint } of failing) expect(hint).toMatch(/\w/)
    return Object.fromEntries(
      failing.map(({ name, detail }: { name: string; detail: string }) => [name, detail]),
    )
  }
  const change = (set: string) =>
    gateway.db.pool.query(`update workers set heartbeat_at = clock_timestamp(), ${set}`)

  test('tells of what cannot be reached, and of whoever does not lead', async () => {
    gateway.serve((_, response) => {
      response.writeHead(404, { 'content-type': 'application/json' })
      response.end(
        JSON.stringify({ error: { code: 'NOT_FOUND', message: 'none', hint: null, retryable: false } }),
      )
    })
    await change('pool_free_bytes = 1099511627776')
    await gateway.db.pool.query("update sequencer set leader = null, heartbeat_at = '-infinity'")
    const found = await wrong()
    expect(found['public URL']).toContain('workers fetch images there')
    expect(found.sequencer).toContain('no scheduler leads')
    expect(found[WORKER]).toBeUndefined()
    expect(found['blob directory']).toBeUndefined()
  }, 30_000)

  test('tells of a worker that has no room, is not heard, or is behind an address that nobody reaches', async () => {
    await change('pool_free_bytes = 5')
    expect((await wrong())[WORKER]).toContain('below 1 GiB')
    await change(
      'pool_free_bytes = 1099511627776, info = info || \'{"dataPlaneUrl": "https://127.0.0.1:9"}\'',
    )
    // The address is believed for some seconds.
    const unreached = async () => (await wrong())[WORKER] ?? ''
    while (!(await unreached()).includes('cannot be reached'))
      await new Promise((resolve) => setTimeout(resolve, 500))
    await gateway.db.pool.query("update workers set heartbeat_at = clock_timestamp() - interval '1 minute'")
    expect((await wrong())[WORKER]).toContain('not heard for 60 s')
  }, 60_000)

  test('tells nobody else of the installation', async () => {
    const { body } = await gateway.ask('GET', '/v1/health')
    expect(JSON.stringify(body)).not.toMatch(/public URL|sequencer|durability/)
  })
})

async function firstExecOf(sandboxId: string): Promise<string> {
  for (;;) {
    const { execs } = (await gateway.ask('GET', `/v1/sandboxes/${sandboxId}/execs`)).body
    if (execs.length > 0) return execs[0].execId
  }
}

/** Until the wait's request has reached the gateway: its own look at the log has ended by then. */
async function waiterOf(execId: string): Promise<void> {
  await gateway.ask('GET', `/v1/execs/${execId}`)
  await gateway.ask('GET', `/v1/execs/${execId}`)
}

/** A worker's address is looked up again after a failed request: this makes one fail. */
async function expireAddress(): Promise<void> {
  const execId = await exec(await create())
  gateway.serve((request) => request.socket.destroy())
  await gateway.ask('GET', `/v1/execs/${execId}/output/stdout`)
}
