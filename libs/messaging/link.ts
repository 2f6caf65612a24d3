/**
 * Whether the broker is there. The client library throws away what was sent while it was not, and lets whoever waits
 * for a reply wait on; so we wait for the link first, and stop waiting when it breaks.
 */

import type { NatsConnection } from '@nats-io/transport-node'
import { SandtrailError } from '#libs/domain'
import type { MessagingLog } from './log.js'

export class Link {
  private up: PromiseWithResolvers<void> = Promise.withResolvers()
  private down: PromiseWithResolvers<void> = Promise.withResolvers()
  private isUp = true
  private readonly onUp = new Set<() => void>()

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
    const answer = ask(Math.max(1, timeoutMs - (performance.now() - startedAt)))
    const broken = this.down.promise.then(() => {
      throw new SandtrailError('UNAVAILABLE', 'the connection to the broker broke before the reply came')
    })
    // Whichever comes second has nobody who waits for it.
    answer.catch(() => {})
    broken.catch(() => {})
    return Promise.race([answer, broken])
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
    this.down.resolve()
    if (!this.connection.isClosed()) this.log.warn({ server }, 'disconnected from the broker')
  }

  private comesBack(server: string): void {
    this.isUp = true
    this.down = Promise.withResolvers()
    this.up.resolve()
    this.log.info({ server }, 'connected to the broker again')
    for (const listener of this.onUp) listener()
  }
}
