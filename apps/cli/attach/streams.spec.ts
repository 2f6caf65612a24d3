import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { PassThrough, Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { afterEach, expect, test } from '@jest/globals'
import { Api } from '../api.js'
import { followOutput } from './follow-output.js'
import { pumpStdin } from './pump-stdin.js'

let server: Server
let api: Api
async function serve(handler: RequestListener): Promise<void> {
  server = createServer(handler).listen(0, '127.0.0.1')
  await once(server, 'listening')
  api = new Api({
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    token: 't',
    caFile: null,
  })
}
afterEach(async () => {
  api.close()
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
})

const CONTENT = Buffer.from(Array.from({ length: 10_000 }, (_, i) => i % 251))
const offsetOf = (url: string | undefined) => Number(new URL(url!, 'http://x').searchParams.get('offset'))
const fail = (status: number, code: string, more: object = {}) =>
  [
    status,
    JSON.stringify({ error: { code, message: 'm', hint: null, retryable: status >= 500 }, ...more }),
  ] as const

test('an attached terminal gets every byte: sequences of the clipboard and C1 controls too, as ssh and docker do it', async () => {
  const driving = Buffer.concat([
    Buffer.from('\u001b]52;c;ZXZpbA==\u0007\u001b[2J'),
    Buffer.from([0x9b, 0x63, 0x9d]),
  ])
  await serve((_request, response) => response.writeHead(200, { 'sandtrail-end': '1' }).end(driving))
  const sink = new PassThrough()
  const got = buffer(sink)
  await followOutput(api, { path: '/o' }, sink, { total: Promise.resolve(driving.length) })
  sink.end()
  expect(await got).toEqual(driving)
})

test('output is whole, whatever breaks: the connection, the server, an answer that ends too early', async () => {
  let requests = 0
  await serve((request, response) => {
    const offset = offsetOf(request.url)
    requests += 1
    switch (requests % 4) {
      case 0:
        response.writeHead(200, { 'sandtrail-end': '1' })
        response.end(CONTENT.subarray(offset))
        return
      case 1: // Broken off in the middle.
        response.writeHead(200).write(CONTENT.subarray(offset, offset + 3_000), () => response.destroy())
        return
      case 2: {
        const [status, body] = fail(503, 'UNAVAILABLE')
        response.writeHead(status).end(body)
        return
      }
      case 3: // Ended as if that were all.
        response.writeHead(200).end(CONTENT.subarray(offset, offset + 3_000))
    }
  })
  const sink = new PassThrough()
  const got = buffer(sink)
  const total = Promise.resolve(CONTENT.length)
  expect(await followOutput(api, { path: '/o' }, sink, { total })).toBe(CONTENT.length)
  sink.end()
  expect((await got).equals(CONTENT)).toBe(true)
})

test('bytes that are gone are skipped, and the user is told', async () => {
  await serve((request, response) => {
    if (offsetOf(request.url) < 4_000) {
      const [status, body] = fail(410, 'OUTPUT_DROPPED', { firstOffset: 4_000 })
      response.writeHead(status).end(body)
    } else {
      response.writeHead(200, { 'sandtrail-end': '1' }).end(CONTENT.subarray(offsetOf(request.url)))
    }
  })
  const sink = new PassThrough()
  const got = buffer(sink)
  const notes: string[] = []
  await followOutput(api, { path: '/o' }, sink, { note: (text) => notes.push(text) })
  sink.end()
  expect((await got).equals(CONTENT.subarray(4_000))).toBe(true)
  expect(notes).toEqual([expect.stringContaining('4000 bytes')])
})

test('an answer that will stay is thrown at once', async () => {
  await serve((_request, response) => {
    const [status, body] = fail(404, 'EXEC_NOT_FOUND')
    response.writeHead(status).end(body)
  })
  await expect(followOutput(api, { path: '/o' }, new PassThrough())).rejects.toMatchObject({
    code: 'EXEC_NOT_FOUND',
  })
})

test('input arrives once and in order, also when answers are lost or only part of a piece is taken', async () => {
  const taken: Buffer[] = []
  let length = 0
  let ended = 0
  let requests = 0
  await serve(async (request, response) => {
    requests += 1
    const offset = offsetOf(request.url)
    const body = await buffer(request)
    // As a worker does: what it has already is skipped. Sometimes it takes half, sometimes its answer is lost.
    const fresh = body.subarray(length - offset)
    const part = requests % 3 === 1 ? fresh.subarray(0, Math.ceil(fresh.length / 2)) : fresh
    taken.push(part)
    length += part.length
    if (request.url!.includes('eof=1')) ended += 1
    if (requests % 3 === 2) request.socket.destroy()
    else response.end(JSON.stringify({ acceptedTo: length }))
  })
  const input = Readable.from(
    [CONTENT.subarray(0, 10), CONTENT.subarray(10, 6_000), CONTENT.subarray(6_000)],
    {
      objectMode: false,
    },
  )
  await pumpStdin(api, 'ex-1', input, { signal: new AbortController().signal })
  expect(Buffer.concat(taken).equals(CONTENT)).toBe(true)
  expect(ended).toBeGreaterThanOrEqual(1)
})

test('a process that has ended takes nothing more, and that is no error', async () => {
  await serve((request, response) => {
    request.resume()
    const [status, body] = fail(409, 'EXEC_ENDED')
    response.writeHead(status).end(body)
  })
  await pumpStdin(api, 'ex-1', Readable.from([CONTENT]), { signal: new AbortController().signal })
})
