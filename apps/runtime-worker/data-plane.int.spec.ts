/** The data plane over TLS, as a gateway uses it: the certificate of the heartbeat, a token per sandbox, offsets. */

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { type ClientRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { DATA_PLANE } from '#libs/contract'
import type { ExecId, SandboxId } from '#libs/domain'
import { newSandboxId, startWorld, type WorkerProcess, type WorkerWorld } from './testing.js'

let world: WorkerWorld
let worker: WorkerProcess
beforeAll(async () => {
  world = await startWorld()
  worker = await world.start()
}, 120_000)
afterAll(() => world?.close())

async function open(
  method: string,
  path: string,
  sandboxId: SandboxId,
  token?: string,
): Promise<ClientRequest> {
  const { dataPlaneUrl, certificate } = world.control.heartbeat!.info
  const bearer = token ?? (await world.token(sandboxId))
  return httpsRequest(new URL(path, dataPlaneUrl), {
    method,
    ca: certificate,
    headers: { authorization: `Bearer ${bearer}` },
    agent: false,
  })
}

async function ask(
  method: string,
  path: string,
  sandboxId: SandboxId,
  options: { body?: string; token?: string } = {},
) {
  const request = await open(method, path, sandboxId, options.token)
  request.end(options.body)
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  const pieces: Buffer[] = []
  for await (const piece of response) pieces.push(piece as Buffer)
  const text = Buffer.concat(pieces).toString()
  return { status: response.statusCode, headers: response.headers, text, json: () => JSON.parse(text) }
}

const output = (
  sandboxId: SandboxId,
  execId: ExecId | 'main',
  query: string,
  stream: 'stdout' | 'stderr' = 'stdout',
) => ask('GET', `${DATA_PLANE.output(sandboxId, execId, stream)}?${query}`, sandboxId)

test('output is followed to its end and read again from any offset', async () => {
  const sandboxId = await world.create()
  const execId = await world.exec(sandboxId, ['sh', '-c', 'echo one; sleep 0.3; echo two; echo err >&2'])
  const followed = await output(sandboxId, execId, 'follow=1')
  expect(followed).toMatchObject({ status: 200, text: 'one\ntwo\n' })
  expect(followed.headers['sandtrail-offset']).toBe('0')
  await world.control.until(sandboxId, 'exec-ended', execId)
  const rest = await output(sandboxId, execId, 'offset=4&limit=3')
  expect(rest).toMatchObject({ status: 200, text: 'two' })
  expect(rest.headers['sandtrail-end']).toBe('1')
  expect(await output(sandboxId, execId, 'follow=1', 'stderr')).toMatchObject({ text: 'err\n' })
  await world.stop(sandboxId)
  await world.control.until(sandboxId, 'sandbox-cleaned-up')
  expect(await output(sandboxId, execId, 'follow=1')).toMatchObject({ text: 'one\ntwo\n' })
})

test('stdin goes in at offsets, and what comes twice is taken once', async () => {
  const sandboxId = await world.create({ idleTimeoutMs: 60_000 })
  const execId = await world.exec(sandboxId, ['cat'], { stdin: 'open' })
  const put = (query: string, body: string) =>
    ask('PUT', `${DATA_PLANE.stdin(sandboxId, execId)}?${query}`, sandboxId, { body })
  expect((await put('offset=0', 'hello ')).json()).toEqual({ acceptedTo: 6 })
  expect((await put('offset=3', 'lo world')).json()).toEqual({ acceptedTo: 11 })
  expect((await put('offset=99', 'gap')).json()).toMatchObject({ error: { code: 'INVALID_ARGUMENT' } })
  expect((await put('offset=11&eof=1', '')).status).toBe(200)
  expect(await output(sandboxId, execId, 'follow=1')).toMatchObject({ text: 'hello world' })
  await world.control.until(sandboxId, 'exec-ended', execId)
  expect(await put('offset=11', 'late')).toMatchObject({ status: 409 })
  await world.stop(sandboxId)
})

test('10 MiB go through a pipe as they are', async () => {
  const sandboxId = await world.create()
  const execId = await world.exec(sandboxId, ['cat'], { stdin: 'open' })
  const body = 'a line of the body\n'.repeat(550_000)
  const reading = output(sandboxId, execId, 'follow=1')
  await ask('PUT', `${DATA_PLANE.stdin(sandboxId, execId)}?offset=0&eof=1`, sandboxId, { body })
  const { text } = await reading
  expect(createHash('sha256').update(text).digest('hex')).toBe(
    createHash('sha256').update(body).digest('hex'),
  )
  await world.stop(sandboxId)
})

test('a terminal has the size that it is given', async () => {
  const sandboxId = await world.create()
  const script = 'stty size; trap "stty size; exit" WINCH; while :; do sleep 0.05; done'
  const execId = await world.exec(sandboxId, ['bash', '-c', script], {
    pty: { rows: 24, cols: 80 },
    stdin: 'open',
  })
  const resize = (body: object) =>
    ask('POST', DATA_PLANE.resize(sandboxId, execId), sandboxId, { body: JSON.stringify(body) })
  expect((await resize({ rows: 0, cols: 1 })).json()).toMatchObject({ error: { code: 'INVALID_ARGUMENT' } })
  // Once the trap is set the first size is printed.
  const { readable } = await follow(sandboxId, execId, '24 80')
  expect((await resize({ rows: 50, cols: 132 })).status).toBe(200)
  expect(await readable).toContain('50 132')
  await world.stop(sandboxId)
})

test('the main process reads an open stdin, in a terminal of the size that it is given', async () => {
  const sandboxId = await world.create({
    command: ['/bin/sh', '-c', 'read line; echo "got $line"; /bin/stty size'],
    stdin: 'open',
    pty: { rows: 24, cols: 80 },
  })
  const resize = () =>
    ask('POST', DATA_PLANE.resize(sandboxId, 'main'), sandboxId, { body: '{"rows":50,"cols":132}' })
  expect((await resize()).status).toBe(200)
  const put = await ask('PUT', `${DATA_PLANE.stdin(sandboxId, 'main')}?offset=0`, sandboxId, {
    body: 'a line\n',
  })
  expect(put.json()).toEqual({ acceptedTo: 7 })
  const { text } = await output(sandboxId, 'main', 'follow=1')
  expect(text).toContain('got a line')
  expect(text).toContain('50 132')
  const { ending } = await world.control.until(sandboxId, 'sandbox-ended')
  expect(ending).toEqual({ kind: 'exited', code: 0, signal: null })
})

test('nobody gets in without a token for this sandbox on this worker', async () => {
  const sandboxId = await world.create()
  const path = DATA_PLANE.output(sandboxId, 'main', 'stdout')
  const tokens = [
    'x',
    await world.token(newSandboxId()),
    await world.token(sandboxId, { audience: 'wk-other' }),
    await world.token(sandboxId, { issuedAt: Math.floor(Date.now() / 1000) - 3600 }),
  ]
  for (const token of tokens)
    expect(await ask('GET', path, sandboxId, { token })).toMatchObject({ status: 401 })
  await world.stop(sandboxId)
})

test('what is not here is told apart', async () => {
  const sandboxId = await world.create()
  const missing = await ask('GET', DATA_PLANE.output(sandboxId, 'main', 'stdout'), sandboxId)
  expect(missing).toMatchObject({ status: 404 })
  expect(missing.json()).toMatchObject({ error: { code: 'EXEC_NOT_FOUND' } })
  await world.stop(sandboxId)
}, 20_000)

test('1 GiB of output grows the worker by less than 64 MiB, and a slow reader holds nobody up', async () => {
  const sandboxId = await world.create({ timeoutMs: 600_000 })
  const slow = await world.exec(sandboxId, ['sh', '-c', 'head -c 1000 /dev/zero; sleep 600'])
  await world.control.until(sandboxId, 'exec-started', slow)
  await output(sandboxId, slow, 'offset=0')
  const before = rssBytes(worker.pid)
  const execId = await world.exec(sandboxId, ['head', '-c', `${1024 ** 3}`, '/dev/zero'])
  const reader = await open('GET', `${DATA_PLANE.output(sandboxId, execId, 'stdout')}?follow=1`, sandboxId)
  reader.end()
  const [response] = (await once(reader, 'response')) as [IncomingMessage]
  let most = before
  const sampling = setInterval(() => {
    most = Math.max(most, rssBytes(worker.pid))
  }, 50)
  const { ending } = await world.control.until(sandboxId, 'exec-ended', execId, 180_000)
  clearInterval(sampling)
  response.destroy()
  expect(ending).toMatchObject({
    exitCode: 0,
    stdout: {
      bytes: 1024 ** 3,
      droppedBytes: 0,
      sha256: '49bc20df15e412a64472421e13fe86ff1c5165e18b2afccf160d4dc19fe68a14',
    },
  })
  expect((most - before) / 1024 ** 2).toBeLessThan(64)
  expect((await output(sandboxId, execId, `offset=${1024 ** 3 - 5}`)).text).toHaveLength(5)
  await world.stop(sandboxId)
}, 240_000)

test('over the quota the oldest output is gone, is counted, and a reader is told where it begins', async () => {
  worker = await world.start({ env: { SANDTRAIL_SPOOL_BYTES_MAX: `${16 * 1024 ** 2}` } })
  const sandboxId = await world.create()
  const bytes = 50 * 1024 ** 2
  const execId = await world.exec(sandboxId, ['head', '-c', `${bytes}`, '/dev/zero'])
  const { ending } = await world.control.until(sandboxId, 'exec-ended', execId, 60_000)
  const droppedBytes = 48 * 1024 ** 2
  const sha256 = createHash('sha256').update(Buffer.alloc(bytes)).digest('hex')
  expect(ending).toMatchObject({ exitCode: 0, stdout: { bytes, droppedBytes, sha256 } })
  const gone = await output(sandboxId, execId, 'offset=0')
  expect(gone.status).toBe(410)
  expect(gone.json()).toMatchObject({ error: { code: 'OUTPUT_DROPPED' }, firstOffset: droppedBytes })
  expect((await output(sandboxId, execId, `offset=${droppedBytes}`)).text).toHaveLength(2 * 1024 ** 2)
  await world.stop(sandboxId)
}, 120_000)

/** Follows until `text` was seen; `readable` has everything at the end. */
async function follow(
  sandboxId: SandboxId,
  execId: ExecId,
  text: string,
): Promise<{ readable: Promise<string> }> {
  const request = await open('GET', `${DATA_PLANE.output(sandboxId, execId, 'stdout')}?follow=1`, sandboxId)
  request.end()
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  let seen = ''
  response.on('data', (piece) => {
    seen += piece
  })
  while (!seen.includes(text)) await once(response, 'data')
  return { readable: once(response, 'end').then(() => seen) }
}

function rssBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024
}
