/** One step along the ledger, for subscriptions and projections: events and cursor in one transaction. */

import { isKnown, type KnownEvents } from '#libs/domain'
import { type Database, type Queryable, type Transaction, transaction } from './database.js'
import { lastPosition, readWindow } from './read.js'
import type { RecordedEvent } from './types.js'
import { unknownEvent } from './unknown-event.js'

export interface Following {
  /** Where the cursor is kept, by `name`. */
  table: 'cursors' | 'projections'
  name: string
  /** Only these; all when absent. Others are passed over. */
  types?: string[]
  /**
   * Stops before any other event, of `types` or not: a newer release's follower may have to handle it, and finds the
   * cursor there. All are known when absent.
   */
  knows?: KnownEvents
  /** Some events, in order of position; at least one. */
  handle(tx: Transaction, events: RecordedEvent[]): Promise<void>
}

/**
 * A handler may take 60 s between two statements: it may append elsewhere. What is lost in a power cut is followed
 * again, cursor and all, so nobody waits for the disk here.
 */
const BEGIN =
  'begin; set local synchronous_commit = off; set local idle_in_transaction_session_timeout = 60000'

/**
 * Handles the events of the next `limit` positions and moves the cursor behind them. Returns how many positions were
 * passed: 0 at the ledger's end, and while another process is at it.
 */
export async function followNext(db: Database, following: Following, limit: number): Promise<number> {
  if (await isAtEnd(db, following)) return 0
  const passed = await transaction(
    db,
    async (tx) => {
      const window = await lockWindow(tx, following, limit)
      if (window === null) return null
      const { from, until } = window
      const reached = until > from ? await handleWindow(tx, following, from, until) : from
      return Number(reached - from)
    },
    BEGIN,
  )
  if (passed !== null) return passed
  return (await makeCursor(db, following)) ? followNext(db, following, limit) : 0
}

/** One look instead of a transaction with a lock: most polls find nothing. False when there is no cursor yet. */
async function isAtEnd(db: Queryable, { table, name }: Following): Promise<boolean> {
  const { rows } = await db.query<{ at_end: boolean }>({
    name: `end-${table}`,
    text: `select position >= (select coalesce(max(position), 0) from ledger) as at_end from ${table} where name = $1`,
    values: [name],
  })
  return rows[0]?.at_end ?? false
}

/** Handles every event from position 1 on, and leaves the cursor behind the last. */
export async function followAll(tx: Transaction, following: Following, batch: number): Promise<void> {
  const until = await lastPosition(tx)
  for (let from = 0n; from < until; ) {
    const end = from + BigInt(batch)
    from = await handleWindow(tx, following, from, end < until ? end : until)
  }
}

/**
 * Where the cursor is now: before `until` when an unknown event follows.
 *
 * @throws SandtrailError UNAVAILABLE when it is the very next one
 */
async function handleWindow(
  tx: Transaction,
  following: Following,
  from: bigint,
  until: bigint,
): Promise<bigint> {
  const { types = null, knows, handle } = following
  for (let at = from; at < until; ) {
    const { events, next } = await readWindow(tx, at, until, types, knows ? Object.keys(knows) : null)
    const unknown = knows ? events.findIndex((event) => !isKnown(knows, event)) : -1
    const handled = unknown < 0 ? events : events.slice(0, unknown)
    if (handled.length > 0) await handle(tx, handled)
    const stop = events[unknown]
    if (stop !== undefined) {
      // What comes before it stands, so that the failure that tells of it undoes nothing.
      const before = stop.position! - 1n
      if (before === from) throw unknownEvent(stop)
      return moveCursor(tx, following, before)
    }
    at = next
  }
  return moveCursor(tx, following, until)
}

async function moveCursor(tx: Transaction, { table, name }: Following, until: bigint): Promise<bigint> {
  await tx.query({
    name: `move-${table}`,
    text: `update ${table} set position = $2, at = clock_timestamp() where name = $1`,
    values: [name, String(until)],
  })
  return until
}

/** Null: there is no cursor yet, or a follower in another process has it, and this one has nothing to do. */
async function lockWindow(
  tx: Transaction,
  { table, name }: Following,
  limit: number,
): Promise<{ from: bigint; until: bigint } | null> {
  const { rows } = await tx.query<{ from: string; until: string }>({
    name: `lock-${table}`,
    // Positions have no gap, so the window's end is known without looking at its events.
    text: `
      select position as "from",
             greatest(position, least(position + $2, (select coalesce(max(position), 0) from ledger))) as until
      from ${table}
      where name = $1
      for update skip locked
    `,
    values: [name, limit],
  })
  const row = rows[0]
  return row ? { from: BigInt(row.from), until: BigInt(row.until) } : null
}

/** False: it is there already. */
export async function makeCursor(db: Queryable, { table, name }: Following): Promise<boolean> {
  const insert = `insert into ${table} (name) values ($1) on conflict (name) do nothing`
  return (await db.query(insert, [name])).rowCount === 1
}
