/**
 * The way to the bytes: requests to a worker's data plane. The worker's certificate is pinned to the one that the
 * scheduler recorded, and a token of some minutes names the one sandbox that the request is about.
 */

import type { KeyObject } from 'node:crypto'
import type { ClientRequest, IncomingMessage } from 'node:http'
import { Agent, request } from 'node:https'
import type { Readable } from 'node:stream'
import type { PeerCertificate } from 'node:tls'
import { SignJWT } from 'jose'
import { type ErrorBody, fromErrorBody, SandtrailError } from '#libs/domain'
import type { Database } from '#libs/event-store'
import { Recent } from '../recent.js'
import { OutputDropped } from './output-dropped.js'

export interface DataPlaneRequest {
  workerId: string
  sandboxId: string
  method: 'GET' | 'PUT' | 'POST'
  /** With its query. */
  path: string
  contentType?: string
  body?: Readable | Buffer
  signal?: AbortSignal
}

interface Worker {
  url: string
  agent: Agent
  /** Of the certificate that the agent expects. */
  certificate: string
  checkedAtMs: number
}

/** How long a worker's address is believed before it is looked up again: it changes only when the worker restarts. */
const ADDRESS_MS = 5_000
/** Well under the 15 minutes that a worker accepts. */
const TOKEN_SECONDS = 600
const TOKEN_REUSE_MS = 300_000
const TOKENS_MAX = 10_000
const ERROR_BYTES_MAX = 64 * 1024
/** To the answer's head when it is not a stream that waits for a process. */
const CONNECT_MS = 10_000

const FIND_ADDRESS = `
  select info ->> 'dataPlaneUrl' as url, info ->> 'certificate' as certificate
  from workers
  where worker_id = $1
`

export class DataPlane {
  private readonly workers = new Map<string, Worker>()
  private readonly tokens = new Recent<{ token: string; madeAtMs: number }>(TOKENS_MAX)

  constructor(
    private readonly db: Database,
    private readonly key: KeyObject,
  ) {}

  /**
   * Resolves with the worker's answer once its head is there; the caller reads the body.
   *
   * @throws the worker's own coded error
   * @throws SandtrailError UNAVAILABLE when the worker cannot be reached
   */
  async send(wanted: DataPlaneRequest): Promise<IncomingMessage> {
    const token = await this.token(wanted.workerId, wanted.sandboxId)
    const worker = await this.worker(wanted.workerId)
    let answer: IncomingMessage
    try {
      answer = await exchange(worker, token, wanted)
    } catch (cause) {
      this.forget(wanted.workerId)
      if (cause instanceof SandtrailError) throw cause
      throw unreachable(wanted.workerId, cause)
    }
    if ((answer.statusCode ?? 500) < 400) return answer
    throw await errorOf(answer)
  }

  close(): void {
    for (const { agent } of this.workers.values()) agent.destroy()
    this.workers.clear()
  }

  private async worker(workerId: string): Promise<Worker> {
    const known = this.workers.get(workerId)
    const now = performance.now()
    if (known !== undefined && now - known.checkedAtMs < ADDRESS_MS) return known
    const { rows } = await this.db.query<{ url: string | null; certificate: string | null }>(FIND_ADDRESS, [
      workerId,
    ])
    const { url, certificate } = rows[0] ?? {}
    if (!url || !certificate) throw unreachable(workerId, undefined)
    if (known !== undefined && known.url === url && known.certificate === certificate) {
      known.checkedAtMs = now
      return known
    }
    known?.agent.destroy()
    const worker = { url, certificate, agent: pinnedAgent(certificate), checkedAtMs: now }
    this.workers.set(workerId, worker)
    return worker
  }

  /** The next request looks its address up again. */
  private forget(workerId: string): void {
    const known = this.workers.get(workerId)
    if (known !== undefined) known.checkedAtMs = Number.NEGATIVE_INFINITY
  }

  private async token(workerId: string, sandboxId: string): Promise<string> {
    const name = `${workerId} ${sandboxId}`
    const known = this.tokens.get(name)
    const now = performance.now()
    if (known !== undefined && now - known.madeAtMs < TOKEN_REUSE_MS) return known.token
    const token = await new SignJWT({})
      .setProtectedHeader({ alg: 'EdDSA' })
      .setSubject(sandboxId)
      .setAudience(workerId)
      .setIssuedAt()
      .setExpirationTime(`${TOKEN_SECONDS}s`)
      .sign(this.key)
    this.tokens.set(name, { token, madeAtMs: now })
    return token
  }
}

/** Trusts this one certificate and nothing else; the name in it does not matter. */
function pinnedAgent(certificate: string): Agent {
  return new Agent({
    keepAlive: true,
    maxSockets: Number.POSITIVE_INFINITY,
    ca: certificate,
    minVersion: 'TLSv1.3',
    checkServerIdentity(_host: string, peer: PeerCertificate) {
      const pinned = pemBody(certificate)
      return peer.raw.toString('base64') === pinned ? undefined : new Error("not the worker's certificate")
    },
  })
}

function pemBody(pem: string): string {
  return pem.replace(/-----[A-Z ]+-----|\s/g, '')
}

async function exchange(
  { url, agent }: Worker,
  token: string,
  { method, path, contentType, body, signal }: DataPlaneRequest,
): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
  const outgoing = request(new URL(path, url), {
    method,
    agent,
    signal,
    headers: {
      Authorization: `Bearer ${token}`,
      ...(contentType === undefined ? {} : { 'Content-Type': contentType }),
      ...(body instanceof Buffer ? { 'Content-Length': body.length } : {}),
    },
  })
  outgoing.on('response', resolve)
  outgoing.on('error', reject)
  outgoing.on('socket', (socket) => {
    // Only the way there has a limit: a stream may be silent for as long as its process is.
    if (!socket.connecting) return
    socket.setTimeout(CONNECT_MS, () => outgoing.destroy(new Error('no connection in time')))
    socket.once('secureConnect', () => socket.setTimeout(0))
  })
  if (body === undefined || Buffer.isBuffer(body)) outgoing.end(body)
  else forward(body, outgoing)
  return await promise
}

/**
 * Hands a body on as it comes. Not by `pipeline`: a worker that answers before it has read all would take the caller's
 * connection down with it, and with that the answer.
 */
function forward(body: Readable, outgoing: ClientRequest): void {
  body.on('error', (error) => outgoing.destroy(error))
  body.on('close', () => {
    if (!body.readableEnded) outgoing.destroy(new Error('the caller has gone'))
  })
  outgoing.on('close', () => {
    body.unpipe(outgoing)
    body.resume()
  })
  // An empty body may have ended before it was looked at.
  if (body.readableEnded || body.destroyed) outgoing.end()
  else body.pipe(outgoing)
}

async function errorOf(answer: IncomingMessage): Promise<Error> {
  let text = ''
  answer.setEncoding('utf8')
  for await (const chunk of answer) {
    text += chunk
    if (text.length > ERROR_BYTES_MAX) break
  }
  try {
    const { error, firstOffset } = JSON.parse(text) as { error: ErrorBody; firstOffset?: unknown }
    if (typeof firstOffset === 'number') return new OutputDropped(error.message, firstOffset)
    return fromErrorBody(error)
  } catch (cause) {
    return new SandtrailError('INTERNAL', `the worker answered with status ${answer.statusCode}`, { cause })
  }
}

function unreachable(workerId: string, cause: unknown): SandtrailError {
  return new SandtrailError('UNAVAILABLE', `worker ${workerId} cannot be reached`, {
    hint: 'its output is kept there: try again when the worker is back',
    cause,
  })
}
