/**
 * A client of the HTTP API that writes down what it asked for, what it was told and what it saw. It does what every
 * client is told to do: it sends a command again, with the same id, until it hears an answer that counts.
 */

import { createHash, randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Accepted } from '#libs/contract'
import type { HistoryFile, SeenOutput } from './history.js'

export interface ExecEnd {
  execId: string
  /** Null: it was lost, or it is not over within the client's patience. */
  exitCode: number | null
}

export interface ClientOptions {
  url: string
  token: string
  history: HistoryFile
  /** For how long one command is sent again. */
  patienceMs: number
}

interface Answer {
  status: number
  body: { error?: { code: string; retryable: boolean }; [key: string]: unknown }
}

const ANSWER_MS_MAX = 15_000
const RETRY_MS = 200
const WAIT_MS = 5_000

export class RecordingClient {
  constructor(private readonly options: ClientOptions) {}

  createSandbox(body: object): Promise<Accepted | null> {
    return this.command('sandbox.create', '/v1/sandboxes', body)
  }

  terminate(sandboxId: string): Promise<Accepted | null> {
    return this.command('sandbox.terminate', `/v1/sandboxes/${sandboxId}/terminate`, {})
  }

  snapshot(sandboxId: string): Promise<Accepted | null> {
    return this.command('snapshot.create', `/v1/sandboxes/${sandboxId}/snapshot`, {})
  }

  createVolume(name: string): Promise<Accepted | null> {
    return this.command('volume.create', '/v1/volumes', { name })
  }

  /** What the sandbox has written becomes a version; it may fail, as when the sandbox is ending. */
  commitVolume(volume: string, sandboxId: string): Promise<Accepted | null> {
    return this.command('volume.commit', `/v1/volumes/${volume}/commit`, { sandbox: sandboxId })
  }

  /** Runs a program, waits for its end and reads all that it printed. Null: it was refused. */
  async exec(sandboxId: string, argv: string[]): Promise<ExecEnd | null> {
    const accepted = await this.command('sandbox.exec', `/v1/sandboxes/${sandboxId}/execs`, { argv })
    const execId = accepted?.execId
    if (execId === undefined) return null
    const view = await this.patiently(async () => {
      const { status, body } = await this.send('GET', `/v1/execs/${execId}/wait?timeoutMs=${WAIT_MS}`)
      return status === 200 && body.state === 'ended' ? body : null
    })
    if (view?.terminalEvent !== 'ExecExited') return { execId, exitCode: null }
    const exitCode = view.exitCode as number
    const stdout = await this.output(execId, 'stdout')
    const stderr = await this.output(execId, 'stderr')
    if (stdout && stderr) this.options.history.write({ kind: 'exec-ended', execId, exitCode, stdout, stderr })
    return { execId, exitCode }
  }

  /** True when it has ended within the client's patience. */
  async untilEnded(sandboxId: string, patienceMs = this.options.patienceMs): Promise<boolean> {
    const ended = await this.patiently(async () => {
      const { status, body } = await this.send('GET', `/v1/sandboxes/${sandboxId}/wait?timeoutMs=${WAIT_MS}`)
      return status === 200 && body.state === 'ended' ? body : null
    }, patienceMs)
    return ended !== null
  }

  /** Writes every event of the tenant down, until `signal`; after a break it goes on behind the last that it has seen. */
  async follow(follower: string, signal: AbortSignal): Promise<void> {
    let last = 0
    while (!signal.aborted) {
      const headers: Record<string, string> = { accept: 'text/event-stream' }
      if (last > 0) headers['last-event-id'] = String(last)
      try {
        const response: Response = await fetch(`${this.options.url}/v1/events?after=0`, {
          headers: { ...this.headers(), ...headers },
          signal,
        })
        for await (const { position, stream, version, type } of eventsIn(response)) {
          this.options.history.write({ kind: 'event', follower, position, stream, version, type })
          last = position
        }
      } catch {
        // The gateway is away, or the test is over.
      }
      await delay(RETRY_MS, undefined, { signal }).catch(() => {})
    }
  }

  /** Null: refused, or not answered within the patience, which leaves it unknown. */
  private async command(verb: string, path: string, body: object): Promise<Accepted | null> {
    const { history } = this.options
    const commandId = randomUUID()
    history.write({ kind: 'asked', commandId, verb })
    const accepted = await this.patiently(async () => {
      const { status, body: told } = await this.send('POST', path, body, { 'idempotency-key': commandId })
      if (status >= 200 && status < 300) {
        const { stream, version } = told as { stream?: string; version?: number }
        if (stream !== undefined && version !== undefined)
          history.write({ kind: 'accepted', commandId, stream, version })
        return told as unknown as Accepted
      }
      const { code, retryable } = told.error ?? { code: `HTTP_${status}`, retryable: true }
      // INTERNAL is nobody's decision, and these two are answered with how they ended, which says nothing of the start.
      const isDecided =
        !retryable && code !== 'INTERNAL' && verb !== 'snapshot.create' && verb !== 'volume.commit'
      history.write({ kind: isDecided ? 'refused' : 'unknown', commandId, code })
      return retryable || code === 'INTERNAL' ? null : 'over'
    })
    return accepted === 'over' ? null : accepted
  }

  private async output(execId: string, name: 'stdout' | 'stderr'): Promise<SeenOutput | null> {
    return this.patiently(async () => {
      const response = await fetch(`${this.options.url}/v1/execs/${execId}/output/${name}?follow=1`, {
        headers: this.headers(),
        signal: AbortSignal.timeout(ANSWER_MS_MAX),
      })
      if (!response.ok) return null
      const data = Buffer.from(await response.arrayBuffer())
      return { bytes: data.length, sha256: createHash('sha256').update(data).digest('hex') }
    })
  }

  private async send(
    method: string,
    path: string,
    body?: object,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const response = await fetch(`${this.options.url}${path}`, {
      method,
      headers: { ...this.headers(), 'content-type': 'application/json', ...headers },
      ...(body && { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(ANSWER_MS_MAX + WAIT_MS),
    })
    return { status: response.status, body: (await response.json()) as Answer['body'] }
  }

  private headers(): Record<string, string> {
    return { authorization: `Bearer ${this.options.token}` }
  }

  /** Again and again, also when the connection breaks, until there is something or the patience is over. */
  private async patiently<T>(
    look: () => Promise<T | null>,
    patienceMs = this.options.patienceMs,
  ): Promise<T | null> {
    const giveUpAt = performance.now() + patienceMs
    for (;;) {
      const found = await look().catch(() => null)
      if (found !== null || performance.now() > giveUpAt) return found
      await delay(RETRY_MS)
    }
  }
}

interface SeenEvent {
  position: number
  stream: string
  version: number
  type: string
}

async function* eventsIn(response: Response): AsyncGenerator<SeenEvent> {
  let rest = ''
  for await (const text of response.body!.pipeThrough(new TextDecoderStream())) {
    const blocks = (rest + text).split('\n\n')
    rest = blocks.pop()!
    for (const block of blocks) {
      const data = block.split('\n').find((line) => line.startsWith('data: '))
      if (data) yield JSON.parse(data.slice(6)) as SeenEvent
    }
  }
}
