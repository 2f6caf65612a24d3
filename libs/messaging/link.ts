/**
 * Whether the broker is there. The client library throws away what was sent while it was not, and lets whoever waits
 * for a reply wait on; so we wait for the link first, and stop waiting when it breaks.
 */

import type { NatsConnection } from '@nats-io/transport-node'
import { SandtrailError } from '#libs/domain'
import type { MessagingLog } from './log.js'

export class Link {
  private up: PromiseWithResolvers<void> = Promise.withResolvers()
  private isUp = true
  private readonly onUp = new Set<() => void>()
  /** Of whoever waits for an answer. A set, not one long-lived promise, which would keep every waiter for ever. */
  private readonly onDown = new Set<() => void>()

  constructor(
    private readonly connection: NatsConnection,
    private readonly log: MessagingLog,
  ) {
    this.up.resolve()
    void this.follow()
  }

  /** Calls `listener` each time that the link is there again after it broke. Returns how to stop that. */
  onReconnect(listener: () => void): () => void {
    this.onUp.add(listener)
    return () => this.onUp.delete(listener)
  }

  /**
   * Runs `ask` once the link is there.
   *
   * @throws SandtrailError UNAVAILABLE when it does not come within `timeoutMs`, or breaks before `ask` is done: what
   * was asked may have happened then.
   */
  async while<T>(timeoutMs: number, ask: (remainingMs: number) => Promise<T>): Promise<T> {
    const startedAt = performance.now()
    if (!this.isUp) await this.comesUp(timeoutMs)
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    const breaks = () =>
      reject(new SandtrailError('UNAVAILABLE', 'the connection to the broker broke before the reply came'))
    this.onDown.add(breaks)
    ask(Math.max(1, timeoutMs - (performance.now() - startedAt))).then(resolve, reject)
    try {
      return await promise
    } finally {
      this.onDown.delete(breaks)
    }
  }

  private async comesUp(timeoutMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      const away = () => reject(new SandtrailError('UNAVAILABLE', 'there is no connection to the broker'))
      timer = setTimeout(away, timeoutMs)
    })
    try {
      await Promise.race([this.up.promise, late])
    } finally {
      clearTimeout(timer)
    }
  }

  private async follow(): Promise<void> {
    for await (const status of this.connection.status()) {
      if (status.type === 'disconnect') this.breaks(status.server)
      else if (status.type === 'reconnect') this.comesBack(status.server)
      else if (status.type === 'error') this.log.error({ err: status.error }, 'the broker reports an error')
      else if (status.type === 'slowConsumer')
        this.log.warn({ pending: status.pending }, 'reading too slowly')
    }
    this.breaks('closed')
  }

  private breaks(server: string): void {
    if (!this.isUp) return
    this.isUp = false
    this.up = Promise.withResolvers()
    for (const listener of this.onDown) listener()
    if (!this.connection.isClosed()) this.log.warn({ server }, 'disconnected from the broker')
  }

  private comesBack(server: string): void {
    this.isUp = true
    this.up.resolve()
    this.log.info({ server }, 'connected to the broker again')
    for (const listener of this.onUp) listener()
  }
}
