/**
 * The host's end of one output stream: bytes come in order, go to the sink one piece after the other, and are
 * acknowledged when the sink has them for good.
 *
 *   durable <= received <= durable + 256 KiB        the agent may not run further ahead
 */

import { setTimeout as delay } from 'node:timers/promises'
import type { AgentConnection } from './connection.js'
import { dataChannel, offsetBytes, STDERR, STDOUT } from './frame.js'
import type { AgentLog, OutputSink, OutputStreamName } from './types.js'
import { ProtocolViolation } from './violation.js'

/** Most that an agent sends without an acknowledgement. */
export const OUTPUT_WINDOW = 256 * 1024
/** A sink that fails (a full disk) is tried again after this, doubled up to the maximum. */
const RETRY_MS_FIRST = 50
const RETRY_MS_MAX = 2_000

/** Counts what waits for sinks in this process, over all streams of a session. */
export interface QueueGauge {
  add(bytes: number): void
}

export class OutputReceiver {
  private queue: Buffer[] = []
  private received: number
  private pumping: Promise<void> | null = null
  private target: { connection: AgentConnection; handle: number } | null = null
  private readonly stopping = new AbortController()

  constructor(
    private readonly execId: string,
    private readonly stream: OutputStreamName,
    /** The byte that comes next; every one below is safe in the sink. */
    private durable: number,
    private readonly sink: OutputSink,
    private readonly gauge: QueueGauge,
    private readonly log: AgentLog,
  ) {
    this.received = durable
  }

  get durableOffset(): number {
    return this.durable
  }

  get receivedOffset(): number {
    return this.received
  }

  /** A new connection brings the stream from `durableOffset` on; what is queued here already is skipped then. */
  attach(connection: AgentConnection, handle: number): void {
    this.target = { connection, handle }
  }

  /** The agent no longer has the bytes between what is durable and `from`: only a sink that forgot can bring that. */
  skipTo(from: number): void {
    if (from <= this.received) return
    this.log.error({ execId: this.execId, stream: this.stream, durable: this.durable, from }, 'output lost')
    this.durable = from
    this.received = from
  }

  /** @throws ProtocolViolation for a gap, or more than the window. */
  receive(offset: number, data: Buffer): void {
    if (offset > this.received) throw new ProtocolViolation('BAD_OFFSET', 'output has a gap')
    const fresh = data.subarray(this.received - offset)
    if (fresh.length === 0 || this.stopping.signal.aborted) return
    if (this.received + fresh.length > this.durable + OUTPUT_WINDOW) {
      throw new ProtocolViolation('OVERRUN', 'more output than was asked for')
    }
    this.received += fresh.length
    this.queue.push(fresh)
    this.gauge.add(fresh.length)
    this.pumping ??= this.pump()
  }

  private async pump(): Promise<void> {
    while (this.queue.length > 0 && !this.stopping.signal.aborted) {
      // Small pieces that came while the sink was busy go to it as one.
      const data = this.queue.length === 1 ? this.queue[0]! : Buffer.concat(this.queue)
      this.queue = []
      await this.append(data)
      this.gauge.add(-data.length)
    }
    this.pumping = null
  }

  private async append(data: Buffer): Promise<void> {
    for (let retryMs = RETRY_MS_FIRST; !this.stopping.signal.aborted; ) {
      try {
        await this.sink.append(this.execId, this.stream, this.durable, data)
        this.durable += data.length
        this.acknowledge()
        return
      } catch (error) {
        const fields = { execId: this.execId, stream: this.stream, err: error, retryMs }
        this.log.error(fields, 'output cannot be spooled')
        await delay(retryMs, undefined, { signal: this.stopping.signal }).catch(() => {})
        retryMs = Math.min(retryMs * 2, RETRY_MS_MAX)
      }
    }
  }

  private acknowledge(): void {
    if (!this.target || this.stopping.signal.aborted) return
    const channel = dataChannel(this.target.handle, this.stream === 'stdout' ? STDOUT : STDERR)
    this.target.connection.sendData(channel, [offsetBytes(this.durable)])
  }

  /** Resolves when everything received so far is in the sink. */
  async idle(): Promise<void> {
    while (this.pumping) await this.pumping
  }

  /** No further call of the sink is begun; resolves when the one under way has ended. */
  async stop(): Promise<void> {
    this.stopping.abort()
    await this.pumping
  }
}
