/**
 * What an operator's tools ask of a service, on a port of its own:
 *
 *   GET /metrics    Prometheus' text format
 *   GET /healthz    200 while the process answers at all: restart it when it does not
 *   GET /readyz     200 while it can do its work, else 503; the body names each check: send it no work then
 *
 * None of it needs a token and none of it tells anything of a tenant; the port is on loopback unless it is set.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks'
import { Gauge, Registry } from 'prom-client'
import type { Log } from './log.js'
import { processMetrics } from './metrics.js'

/** Resolves with a word on what was found. @throws when the service cannot do its work */
export type ReadinessCheck = () => Promise<string>

export interface Readiness {
  ok: boolean
  checks: { name: string; ok: boolean; detail: string }[]
}

export interface Sample<L extends string = string> {
  labels?: Partial<Record<L, string>>
  value: number
}

/** Whoever probes gives up by then. */
const ANSWER_MS = 2_000
/** The monitor's own period, which its figures include; short enough for what hurts, and 20 wake-ups a second. */
const LOOP_PERIOD_MS = 50

export class Operations {
  private readonly registry = new Registry()
  private readonly checks = new Map<string, ReadinessCheck>()
  private server: Server | null = null
  private loopDelay: IntervalHistogram | null = null
  private phase: 'starting' | 'running' | 'stopping' = 'starting'

  constructor(private readonly log: Log) {
    this.watchProcess()
  }

  /** A condition of readiness. */
  check(name: string, check: ReadinessCheck): void {
    this.checks.set(name, check)
  }

  /** A gauge that is read at each scrape. One that cannot be read has no value then; the others have theirs. */
  gauge<L extends string>(
    name: string,
    help: string,
    labelNames: readonly L[],
    read: () => Sample<L>[] | Promise<Sample<L>[]>,
  ): void {
    const { log } = this
    new Gauge<L>({
      name,
      help,
      labelNames: [...labelNames],
      registers: [this.registry],
      async collect() {
        let samples: Sample<L>[] = []
        try {
          samples = await within(ANSWER_MS, read())
        } catch (err) {
          log.debug({ err, metric: name }, 'a metric could not be read')
        }
        this.reset()
        // Reset to zero is a value too, and a wrong one.
        if (labelNames.length === 0) this.remove()
        for (const { labels, value } of samples) {
          if (labels === undefined) this.set(value)
          else this.set(labels as Record<L, string>, value)
        }
      },
    })
  }

  /** Never throws: what cannot be asked is what is told. */
  async readiness(): Promise<Readiness> {
    const checks = await Promise.all(
      [...this.checks].map(async ([name, check]) => {
        try {
          return { name, ok: true, detail: await within(ANSWER_MS, check()) }
        } catch (error) {
          return { name, ok: false, detail: error instanceof Error ? error.message : 'does not answer' }
        }
      }),
    )
    const process = { name: 'process', ok: this.phase === 'running', detail: this.phase }
    return { ok: [process, ...checks].every(({ ok }) => ok), checks: [process, ...checks] }
  }

  metrics(): Promise<string> {
    return Registry.merge([processMetrics, this.registry]).metrics()
  }

  /** `port` 0: any free one. Resolves with the port. @throws what `listen` throws, EADDRINUSE above all */
  async listen(host: string, port: number): Promise<number> {
    const server = createServer((request, response) => void this.answer(request, response))
    server.requestTimeout = ANSWER_MS
    server.keepAliveTimeout = 30_000
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(port, host, resolve)
    })
    // A port of probes must not keep a process that has nothing else to do.
    server.unref()
    this.server = server
    return (server.address() as AddressInfo).port
  }

  /** From now on it is ready when its checks are. */
  started(): void {
    this.phase = 'running'
  }

  /** From now on it is not ready, whatever its checks say: no new work should come. */
  stopping(): void {
    this.phase = 'stopping'
  }

  close(): void {
    this.loopDelay?.disable()
    this.server?.close()
    this.server?.closeAllConnections()
  }

  private async answer({ method, url }: IncomingMessage, response: ServerResponse): Promise<void> {
    const send = (status: number, type: string, body: string) => {
      response.writeHead(status, { 'Content-Type': type, 'Cache-Control': 'no-store' })
      response.end(method === 'HEAD' ? undefined : body)
    }
    const json = (status: number, body: object) => send(status, 'application/json', JSON.stringify(body))
    if (method !== 'GET' && method !== 'HEAD') return json(405, { ok: false })
    try {
      switch (url?.split('?')[0]) {
        case '/metrics':
          return send(200, this.registry.contentType, await this.metrics())
        case '/healthz':
          return json(200, { ok: true })
        case '/readyz': {
          const readiness = await this.readiness()
          return json(readiness.ok ? 200 : 503, readiness)
        }
        default:
          return json(404, { ok: false })
      }
    } catch (err) {
      this.log.warn({ err }, 'a probe could not be answered')
      json(500, { ok: false })
    }
  }

  private watchProcess(): void {
    this.gauge(
      'sandtrail_event_loop_lag_seconds',
      'How late the event loop was since the last scrape, by quantile (1: the worst).',
      ['quantile'],
      () => this.readLoopDelay(),
    )
    const process_ = (name: string, help: string, read: () => number) =>
      this.gauge(name, help, [], () => [{ value: read() }])
    process_('process_resident_memory_bytes', 'Resident memory.', () => process.memoryUsage.rss())
    process_('process_cpu_seconds_total', 'CPU time used, user and system.', () => {
      const { user, system } = process.cpuUsage()
      return (user + system) / 1e6
    })
    const startedAt = Date.now() / 1000 - process.uptime()
    process_('process_start_time_seconds', 'Start of the process, Unix time.', () => startedAt)
  }

  /** The monitor runs from the first scrape on: without Prometheus it costs nothing. */
  private readLoopDelay(): Sample<'quantile'>[] {
    if (this.loopDelay === null) {
      this.loopDelay = monitorEventLoopDelay({ resolution: LOOP_PERIOD_MS })
      this.loopDelay.enable()
      return []
    }
    const seconds = (nanoseconds: number) => Math.max(0, nanoseconds / 1e6 - LOOP_PERIOD_MS) / 1e3
    const samples = [
      { labels: { quantile: '0.99' }, value: seconds(this.loopDelay.percentile(99)) },
      { labels: { quantile: '1' }, value: seconds(this.loopDelay.max) },
    ]
    this.loopDelay.reset()
    return samples
  }
}

async function within<T>(ms: number, work: T | Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new Error('no answer in time')), ms)
  try {
    return await Promise.race([work, promise])
  } finally {
    clearTimeout(timer)
  }
}
