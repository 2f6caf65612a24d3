/** For tests only: gives positions without a running sequencer. */

import type { Database, Queryable } from './database.js'
import { placeEvents, takeLead } from './ledger/place.js'

/** Places everything that is committed. Returns the last position. */
export async function placeAll(db: Database): Promise<number> {
  const lead = await takeLead(db, 'test')
  if (lead === null) throw new Error('a sequencer runs on this database')
  for (;;) {
    const placed = await placeEvents(db, lead, 1_000)
    if (placed === null) throw new Error('another leader has come')
    if (placed.entries.length === 0) return lead.position
    lead.position += placed.entries.length
  }
}

/** How far a subscription has come. 0: it was never moved. */
export async function readCursor(db: Queryable, name: string): Promise<bigint> {
  const { rows } = await db.query<{ position: string }>('select position from cursors where name = $1', [
    name,
  ])
  return BigInt(rows[0]?.position ?? 0)
}
