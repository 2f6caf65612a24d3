/** Follows the ledger from wherever its cursor is. What the handler writes in `tx` and the cursor commit together. */

import type { KnownEvents } from '#libs/domain'
import type { Database, Transaction } from './database.js'
import { followNext } from './follow.js'
import { Loop } from './loop.js'
import type { RecordedEvent } from './types.js'

export interface SubscriptionOptions {
  db: Database
  /** Of the cursor. In several processes at once only one follows at a time. */
  name: string
  /** Only events of these types; all when absent. */
  types?: string[]
  /** What is not among these is waited before, see `Following`. */
  knows?: KnownEvents
  /**
   * Called in order of position. A throw rolls the batch back and it comes again. Appends made elsewhere than in `tx`
   * stay, so their command ids must come from the event (`derivedCommandId`).
   */
  handle(tx: Transaction, event: RecordedEvent): Promise<void>
  log?: FollowerLog
}

/** The part of a pino logger that is used here. */
export interface FollowerLog {
  warn(fields: object, message: string): void
}

const BATCH = 200
/** Behind the nudge, which every placed event is followed by. */
const POLL_MS = 1_000

export class Subscription {
  private readonly loop: Loop
  private batch = BATCH

  constructor(private readonly options: SubscriptionOptions) {
    const { name, log } = options
    const onError = (err: unknown) =>
      log?.warn({ err, subscription: name }, 'a subscription failed, it tries again')
    this.loop = new Loop(() => this.step(), { pollMs: POLL_MS, onError })
  }

  start(): void {
    this.loop.start()
  }

  async stop(): Promise<void> {
    await this.loop.stop()
  }

  /** There may be new positions. */
  nudge(): void {
    this.loop.nudge()
  }

  private async step(): Promise<boolean> {
    const { db, handle, ...following } = this.options
    const handleAll = async (tx: Transaction, events: RecordedEvent[]) => {
      for (const event of events) await handle(tx, event)
    }
    const limit = this.batch
    // After a failure one by one, so that what comes before a poisonous event is not undone with it again and again.
    this.batch = 1
    const passed = await followNext(db, { table: 'cursors', ...following, handle: handleAll }, limit)
    this.batch = Math.min(limit * 2, BATCH)
    return passed === limit
  }
}
