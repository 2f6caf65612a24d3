/**
 * Tells the control plane every 2 s what this worker has; the reply brings the orders that are missing. A control
 * plane that is away changes nothing here: no lease of a worker ends a sandbox.
 */

import { setTimeout as delay } from 'node:timers/promises'
import type { Heartbeat, HeartbeatReply, Order } from '#libs/contract'
import { HEARTBEAT_MS } from '#libs/contract'
import { Rejected } from '#libs/domain'
import type { Log } from '#libs/service'

/** An order is taken within milliseconds; a stop waits for one that hangs no longer than this. */
const TAKEN_MS_MAX = 2_000
/** A worker that ended a moment ago counts as alive for three heartbeats. */
const INTRODUCE_MS = 4 * HEARTBEAT_MS

export interface HeartbeatContext {
  compose(): Promise<Heartbeat>
  send(heartbeat: Heartbeat): Promise<HeartbeatReply>
  take(order: unknown): Promise<unknown>
  log: Log
}

export class HeartbeatLoop {
  private timer: NodeJS.Timeout | null = null
  private beating: Promise<void> | null = null
  /** Orders that were begun and are not done. */
  private readonly inHand = new Map<string, Promise<void>>()
  private failing = false
  private answeredAt: number | null = null
  private stopped = false

  constructor(private readonly context: HeartbeatContext) {}

  /** Since a scheduler last answered; null: none has yet. */
  get answeredAgeMs(): number | null {
    return this.answeredAt === null ? null : performance.now() - this.answeredAt
  }

  /**
   * The first heartbeat, before orders are listened for: those of another worker with this id must not come here. One
   * that has just ended is waited for; a control plane that is away says nothing against a start.
   *
   * @throws Rejected NAME_TAKEN
   */
  async introduce(waitMs = INTRODUCE_MS): Promise<void> {
    const giveUpAt = performance.now() + waitMs
    for (;;) {
      try {
        // Its orders come again with the next one.
        return void (await this.context.send(await this.context.compose()))
      } catch (error) {
        if (!(error instanceof Rejected && error.code === 'NAME_TAKEN')) return
        if (performance.now() > giveUpAt) throw error
        await delay(HEARTBEAT_MS / 4)
      }
    }
  }

  start(): void {
    this.beat()
  }

  async stop(): Promise<void> {
    this.stopped = true
    if (this.timer !== null) clearTimeout(this.timer)
    await this.beating
    const taken = Promise.all(this.inHand.values())
    await Promise.race([taken, delay(TAKEN_MS_MAX, undefined, { ref: false })])
  }

  private beat(): void {
    if (this.stopped) return
    const began = performance.now()
    this.beating = this.beatOnce().finally(() => {
      this.beating = null
      const waitMs = Math.max(HEARTBEAT_MS - (performance.now() - began), 0)
      this.timer = setTimeout(() => this.beat(), waitMs)
      if (this.stopped) clearTimeout(this.timer)
    })
  }

  private async beatOnce(): Promise<void> {
    const { compose, send, log } = this.context
    try {
      const { orders } = await send(await compose())
      this.answeredAt = performance.now()
      if (this.failing) log.info('control plane answers again')
      this.failing = false
      this.takeAll(orders)
    } catch (err) {
      if (!this.failing) log.warn({ err }, 'heartbeat not answered; sandboxes go on')
      this.failing = true
    }
  }

  /**
   * Side by side, and none is waited for: an order that hangs keeps back neither the others nor the next heartbeat.
   * What fails comes again with that one; what is still in hand then is not begun twice.
   */
  private takeAll(orders: readonly Order[]): void {
    for (const order of orders) {
      const key = keyOf(order)
      if (this.inHand.has(key)) continue
      const taking = this.takeOne(order).finally(() => this.inHand.delete(key))
      this.inHand.set(key, taking)
    }
  }

  private async takeOne(order: Order): Promise<void> {
    const { take, log } = this.context
    const { kind, sandboxId } = order
    try {
      await take(order)
    } catch (err) {
      log.warn({ order: kind, sandboxId, err }, 'order from heartbeat not taken')
    }
  }
}

function keyOf(order: Order): string {
  const { kind, sandboxId, epoch } = order
  const { execId = '', signalId = '' } = order as { execId?: string; signalId?: string }
  return [kind, sandboxId, epoch, execId, signalId].join('/')
}
