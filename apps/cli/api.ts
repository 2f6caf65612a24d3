/** The gateway's HTTP API, as the commands use it. */

import { randomUUID } from 'node:crypto'
import * as http from 'node:http'
import * as https from 'node:https'
import { type ErrorBody, fromErrorBody, Rejected, SandtrailError } from '#libs/domain'
import { readAuthorities, tlsTrouble } from '#libs/tls'
import { readSettings, type Settings } from './settings.js'

export interface Sending {
  query?: Record<string, string | number | boolean | readonly string[] | undefined>
  /** Sent as JSON. */
  json?: object
  /** Sent as it is. */
  bytes?: Buffer | NodeJS.ReadableStream
  headers?: Record<string, string>
  signal?: AbortSignal
  /** A command: it gets an id, so that sending it again has no second effect. */
  command?: boolean
}

/** The bytes that were asked for are gone; `firstOffset` is the oldest one kept. */
export class OutputDropped extends Rejected {
  constructor(
    { message }: ErrorBody,
    readonly firstOffset: number,
  ) {
    super('OUTPUT_DROPPED', message)
  }
}

type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'

/** Tries for what may pass; a server that restarts is back within about 2 s. */
const TRIES = 4
const FIRST_PAUSE_MS = 150
/** A rate gives the next token within a second; nobody looks at a prompt for longer without a word. */
const PAUSE_MS_MAX = 2_000
const REPEATED: ReadonlySet<string> = new Set(['UNAVAILABLE', 'RESOURCE_EXHAUSTED'])
const ERROR_BYTES_MAX = 256 * 1024

export class Api {
  private readonly agent: http.Agent
  private readonly module: typeof http | typeof https
  readonly base: URL

  constructor(private readonly settings: Settings) {
    try {
      this.base = new URL(settings.url)
    } catch {
      throw new Rejected('INVALID_ARGUMENT', `SANDTRAIL_URL is not a URL: ${JSON.stringify(settings.url)}`)
    }
    if (this.base.protocol !== 'http:' && this.base.protocol !== 'https:') {
      throw new Rejected('INVALID_ARGUMENT', 'SANDTRAIL_URL must begin with http:// or https://')
    }
    this.module = this.base.protocol === 'https:' ? https : http
    this.agent = new this.module.Agent({ keepAlive: true, ...authority(settings, this.base) })
  }

  static fromEnvironment(): Api {
    return new Api(readSettings())
  }

  /** The answer's JSON. Repeated where that is safe. @throws the server's coded error, or UNAVAILABLE */
  async json<T>(method: Method, path: string, sending: Sending = {}): Promise<T> {
    const headers = { ...sending.headers, ...(sending.command ? { 'Idempotency-Key': randomUUID() } : {}) }
    const repeatable = (method === 'GET' || sending.command === true) && !isStream(sending.bytes)
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.once<T>(method, path, { ...sending, headers })
      } catch (error) {
        const mayPass = error instanceof SandtrailError && REPEATED.has(error.code)
        if (!mayPass || !repeatable || attempt === TRIES || isRefused(error)) throw error
        const pauseMs = error.retryAfterMs ?? FIRST_PAUSE_MS * 2 ** (attempt - 1)
        await pause(Math.min(pauseMs, PAUSE_MS_MAX), sending.signal)
      }
    }
  }

  /** The answer as a stream, its head being good. @throws as `json`; never repeated */
  async open(method: Method, path: string, sending: Sending = {}): Promise<http.IncomingMessage> {
    const answer = await this.send(method, path, sending)
    if ((answer.statusCode ?? 500) < 400) return answer
    throw errorOf(answer.statusCode ?? 500, await readText(answer))
  }

  close(): void {
    this.agent.destroy()
  }

  private async once<T>(method: Method, path: string, sending: Sending): Promise<T> {
    const answer = await this.open(method, path, sending)
    try {
      return JSON.parse(await readText(answer)) as T
    } catch (cause) {
      throw new SandtrailError('UNAVAILABLE', `the answer of ${this.base.origin} is not complete`, { cause })
    }
  }

  private async send(method: Method, path: string, sending: Sending): Promise<http.IncomingMessage> {
    const url = new URL(path, this.base)
    for (const [key, value] of Object.entries(sending.query ?? {})) {
      if (value === undefined) continue
      for (const item of Array.isArray(value) ? value : [value]) url.searchParams.append(key, String(item))
    }
    const body = sending.json === undefined ? sending.bytes : Buffer.from(JSON.stringify(sending.json))
    const headers: Record<string, string | number> = { ...sending.headers }
    if (this.settings.token !== null) headers.Authorization = `Bearer ${this.settings.token}`
    if (body !== undefined) headers['Content-Type'] ??= contentType(sending)
    if (body instanceof Buffer) headers['Content-Length'] = body.length
    const { promise, resolve, reject } = Promise.withResolvers<http.IncomingMessage>()
    const { signal } = sending
    const request = this.module.request(url, { method, headers, agent: this.agent, signal })
    request.on('response', resolve)
    request.on('error', reject)
    if (isStream(body)) {
      body.on('error', (error) => request.destroy(error))
      body.pipe(request)
    } else {
      request.end(body)
    }
    try {
      return await promise
    } catch (cause) {
      if (signal?.aborted) throw cause
      throw unreachable(this.base, cause as NodeJS.ErrnoException)
    }
  }
}

export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer)
      reject(signal?.reason)
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop)
      resolve()
    }, ms)
    signal?.addEventListener('abort', stop, { once: true })
    if (signal?.aborted) stop()
  })
}

/** How long a command that has begun stays with a server that is away. */
export const PATIENCE_MS = 300_000
const PATIENT_PAUSE_MS = 500

/** Repeats `ask` while the server cannot be reached, for something that is under way and must not be given up. */
export async function patiently<T>(ask: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  const giveUpMs = performance.now() + PATIENCE_MS
  for (;;) {
    try {
      return await ask()
    } catch (error) {
      if (signal?.aborted || !mayPass(error) || performance.now() > giveUpMs) throw error
      await pause(PATIENT_PAUSE_MS, signal)
    }
  }
}

/** True for trouble of the way or the server, false for an answer that will stay. */
export function mayPass(error: unknown): boolean {
  if (error instanceof SandtrailError) return error.retryable
  // Node's own: the connection broke while the body came.
  const { code } = error as NodeJS.ErrnoException
  return code === 'ECONNRESET' || code === 'ERR_STREAM_PREMATURE_CLOSE' || code === 'EPIPE'
}

/** A path with every part escaped: ids, names and references come from the caller. */
export function path(strings: TemplateStringsArray, ...parts: string[]): string {
  return strings.map((text, i) => text + (i < parts.length ? encodeURIComponent(parts[i]!) : '')).join('')
}

function isStream(body: Sending['bytes']): body is NodeJS.ReadableStream {
  return body !== undefined && !(body instanceof Buffer)
}

function contentType(sending: Sending): string {
  return sending.json === undefined ? 'application/octet-stream' : 'application/json'
}

/** @throws Rejected INVALID_ARGUMENT for a file that holds no certificate */
function authority({ caFile }: Settings, base: URL): { ca?: string } {
  if (caFile === null || base.protocol !== 'https:') return {}
  try {
    return { ca: readAuthorities(caFile) }
  } catch (error) {
    throw new Rejected('INVALID_ARGUMENT', `SANDTRAIL_CA_FILE: ${(error as Error).message}`)
  }
}

function unreachable(base: URL, cause: NodeJS.ErrnoException): SandtrailError {
  const distrust = tlsTrouble(cause, base.origin)
  if (distrust !== null) {
    const { code, message, hint } = distrust
    // Nothing is sent again, and nobody waits: here a person has to do something.
    return new SandtrailError(code, message, { ...(hint === null ? {} : { hint }), retryable: false, cause })
  }
  return new SandtrailError('UNAVAILABLE', `cannot reach ${base.origin} (${cause.code ?? cause.message})`, {
    hint: 'see whether the server runs and SANDTRAIL_URL names it; on this host `make up` starts one',
    cause,
  })
}

/** Nobody listens there: waiting a little does not help, the user should know at once. */
function isRefused(error: unknown): boolean {
  const { cause } = error as { cause?: NodeJS.ErrnoException }
  return cause?.code === 'ECONNREFUSED' || cause?.code === 'ENOTFOUND'
}

async function readText(answer: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of answer) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}

function errorOf(status: number, text: string): Error {
  try {
    const { error, firstOffset } = JSON.parse(text.slice(0, ERROR_BYTES_MAX)) as {
      error: ErrorBody
      firstOffset?: unknown
    }
    return typeof firstOffset === 'number' ? new OutputDropped(error, firstOffset) : fromErrorBody(error)
  } catch (cause) {
    return new SandtrailError(
      'UNAVAILABLE',
      `the server answered ${status} without an error of Sandtrail's`,
      {
        hint: 'see whether SANDTRAIL_URL names a Sandtrail gateway',
        retryable: status >= 500,
        cause,
      },
    )
  }
}
