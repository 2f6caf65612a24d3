/**
 * Fires durable timers. A due one is leased by moving its due time on, so that a handler that dies is followed by
 * another after the lease. The handler's append consumes the timer in its own transaction (`timers.consume`); what it
 * leaves is removed here. Firing twice is harmless: the derived command id is the same.
 */

import type { Database, Queryable } from './database.js'
import { derivedCommandId } from './envelope.js'
import { Loop } from './loop.js'
import { consumeTimers } from './statements/timers.js'
import type { JsonObject, TimerRef } from './types.js'

export interface FiredTimer extends TimerRef {
  tenant: string
  kind: string
  payload: JsonObject
  /** When it was due, by the database's clock. */
  due: Date
  /** 1 the first time. */
  attempts: number
  /** The same each time that this setting fires. */
  commandId: string
}

/**
 * Appends what the timer's end means, or finds that it means nothing any more. `again` re-arms it with backoff, since
 * what it waits for is still to come; a throw does too, and is told as a failure.
 */
export type TimerHandler =
  | ((timer: FiredTimer) => Promise<void>)
  | ((timer: FiredTimer) => Promise<'done' | 'again'>)

/** A handler takes milliseconds; after this its process is taken for dead. */
const LEASE_MS = 30_000
/** At work at a time in one process; a slow one holds up no other. */
const HANDLERS_MAX = 50
/** Timers are set with seconds at least; a poll on the due index takes 0.05 ms. */
const POLL_MS_MAX = 1_000
const BACKOFF_MS = [1_000, 60_000] as const

export class TimerLoop {
  private readonly loop: Loop
  private readonly atWork = new Set<Promise<void>>()
  private nextPollMs = POLL_MS_MAX

  /** Kinds without a handler are left to others. `onError` hears of failed handlers and of a database that is away. */
  constructor(
    private readonly db: Database,
    private readonly handlers: Record<string, TimerHandler>,
    private readonly onError: (error: unknown, timer?: FiredTimer) => void = () => {},
  ) {
    this.loop = new Loop(() => this.fire(), { pollMs: () => this.nextPollMs, onError })
  }

  start(): void {
    this.loop.start()
  }

  /** Resolves when the handlers at work have ended. */
  async stop(): Promise<void> {
    await this.loop.stop()
    await Promise.all(this.atWork)
  }

  /** After an append that set a short timer. */
  nudge(): void {
    this.loop.nudge()
  }

  private async fire(): Promise<boolean> {
    const room = HANDLERS_MAX - this.atWork.size
    if (room === 0) return false // The first that ends nudges.
    const kinds = Object.keys(this.handlers)
    const due = await leaseDueTimers(this.db, kinds, room)
    for (const timer of due) this.begin(timer)
    if (due.length === room) return true
    this.nextPollMs = await untilNextTimer(this.db, kinds)
    return false
  }

  private begin(timer: FiredTimer): void {
    const work = this.handle(timer).finally(() => {
      if (this.atWork.size === HANDLERS_MAX) this.nudge()
      this.atWork.delete(work)
    })
    this.atWork.add(work)
  }

  private async handle(timer: FiredTimer): Promise<void> {
    try {
      const outcome = await this.handlers[timer.kind]?.(timer)
      if (outcome === 'again') await rearm(this.db, timer)
      else await consumeTimers(this.db, [timer])
    } catch (error) {
      this.onError(error, timer)
      // Should this fail too, the lease brings the timer back.
      await rearm(this.db, timer).catch(() => {})
    }
  }
}

const LEASE_DUE = `
  update timers t
  set due = clock_timestamp() + $3 * interval '1 millisecond', attempts = t.attempts + 1
  from (
    select key, due
    from timers
    where due <= clock_timestamp() and kind = any($1)
    order by due
    limit $2
    for update skip locked
  ) d
  where t.key = d.key
  returning t.key, t.generation, t.tenant, t.kind, t.payload, d.due, t.attempts
`

async function leaseDueTimers(db: Queryable, kinds: string[], limit: number): Promise<FiredTimer[]> {
  type Row = Omit<FiredTimer, 'generation' | 'commandId'> & { generation: string }
  const values = [kinds, limit, LEASE_MS]
  const { rows } = await db.query<Row>({ name: 'lease-due-timers', text: LEASE_DUE, values })
  return rows.map((row) => ({
    ...row,
    generation: BigInt(row.generation),
    commandId: derivedCommandId('timer', row.key, row.generation),
  }))
}

const UNTIL_NEXT = `
  select extract(epoch from min(due) - clock_timestamp())::double precision * 1000 as ms
  from timers
  where kind = any($1)
`

async function untilNextTimer(db: Queryable, kinds: string[]): Promise<number> {
  const { rows } = await db.query<{ ms: number | null }>({
    name: 'until-next-timer',
    text: UNTIL_NEXT,
    values: [kinds],
  })
  return Math.min(Math.max(rows[0]?.ms ?? POLL_MS_MAX, 0), POLL_MS_MAX)
}

const REARM = `
  update timers
  set due = clock_timestamp() + $3 * interval '1 millisecond'
  where key = $1 and generation = $2
`

async function rearm(db: Queryable, { key, generation, attempts }: FiredTimer): Promise<void> {
  const [first, most] = BACKOFF_MS
  const backoffMs = Math.min(first * 2 ** (attempts - 1), most)
  await db.query(REARM, [key, String(generation), backoffMs])
}
