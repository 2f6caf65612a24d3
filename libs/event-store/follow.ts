/** One step along the ledger, for subscriptions and projections: events and cursor in one transaction. */

import { type Database, type Transaction, transaction } from './database.js'
import { readAll } from './read.js'
import type { RecordedEvent } from './types.js'

export interface Following {
  /** Where the cursor is kept, by `name`. */
  table: 'cursors' | 'projections'
  name: string
  /** Only these; all when absent. Others are passed over. */
  types?: string[]
  handle(tx: Transaction, event: RecordedEvent): Promise<void>
}

/** A handler may take this long between two statements: it may append elsewhere. */
const IDLE_MS_MAX = 60_000

/**
 * Handles the events of the next `limit` positions and moves the cursor behind them. Returns how many positions were
 * passed: 0 at the ledger's end, and while another process is at it.
 */
export async function followNext(db: Database, following: Following, limit: number): Promise<number> {
  const { table, name } = following
  // Outside the transaction: on conflict do nothing would wait for whoever holds the row.
  await db.query(`insert into ${table} (name) values ($1) on conflict (name) do nothing`, [name])
  return transaction(db, async (tx) => {
    await tx.query(`set local idle_in_transaction_session_timeout = ${IDLE_MS_MAX}`)
    const from = await lockCursor(tx, table, name)
    if (from === null) return 0
    const until = await handleFrom(tx, following, from, limit)
    if (until > from) await storePosition(tx, table, name, until)
    return Number(until - from)
  })
}

/** Handles the events after `from` in at most `limit` positions. Returns the last of these positions. */
export async function handleFrom(
  tx: Transaction,
  { types, handle }: Following,
  from: bigint,
  limit: number,
): Promise<bigint> {
  const until = await endOfWindow(tx, from, limit)
  const window = { afterPosition: from, untilPosition: until, limit }
  const events = await readAll(tx, types ? { ...window, types } : window)
  for (const event of events) await handle(tx, event)
  return until
}

async function lockCursor(tx: Transaction, table: string, name: string): Promise<bigint | null> {
  // Skipped, not waited for: a follower in another process has it, and this one has nothing to do.
  const { rows } = await tx.query<{ position: string }>(
    `select position from ${table} where name = $1 for update skip locked`,
    [name],
  )
  return rows[0] ? BigInt(rows[0].position) : null
}

export async function storePosition(
  tx: Transaction,
  table: string,
  name: string,
  position: bigint,
): Promise<void> {
  await tx.query(`update ${table} set position = $2, at = clock_timestamp() where name = $1`, [
    name,
    String(position),
  ])
}

const END_OF_WINDOW = `
  -- Positions have no gap, so the window's end is known without looking at its events.
  select least($1::bigint + $2::bigint, coalesce(max(position), 0)) as position
  from ledger
`

async function endOfWindow(tx: Transaction, from: bigint, limit: number): Promise<bigint> {
  const { rows } = await tx.query<{ position: string }>(END_OF_WINDOW, [String(from), limit])
  const end = BigInt(rows[0]?.position ?? 0)
  return end > from ? end : from
}
