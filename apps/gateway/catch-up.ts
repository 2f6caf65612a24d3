/** Lists follow the ledger a moment behind the streams. Who has just created something expects to find it there. */

import type { Gateway } from './gateway.js'

/** A list that is a moment old is better than none. */
const CATCH_UP_MS_MAX = 1_000
const LOOK_MS = 15

const NEWEST = `
  select max(seq) as seq
  from events
`

const CAUGHT_UP = `
  select coalesce(bool_and(p.position >= l.position), false) as yes
  from ledger l cross join projections p
  where l.seq = $1 and p.name = any($2)
`

/** Waits until these projections have what was committed before, but never for long. */
export async function catchUp(db: Gateway['db'], projections: string[]): Promise<void> {
  const giveUpMs = performance.now() + CATCH_UP_MS_MAX
  const newest = (await db.query<{ seq: string | null }>(NEWEST)).rows[0]?.seq ?? null
  while (newest !== null && performance.now() < giveUpMs) {
    const { rows } = await db.query<{ yes: boolean }>(CAUGHT_UP, [newest, projections])
    if (rows[0]?.yes) return
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
  }
}
