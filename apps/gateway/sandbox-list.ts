/**
 * The list of sandboxes, which follows the ledger a moment behind the streams. Who has just created one expects to
 * find it: the list waits for what was committed before it was asked for, but never for long.
 */

import { type ListSandboxes, listSandboxes, type SandboxRow } from '#libs/event-store'
import type { Gateway } from './gateway.js'

/** A list that is a moment old is better than none. */
const CATCH_UP_MS_MAX = 1_000
const LOOK_MS = 15

const NEWEST = `
  select max(seq) as seq
  from events
`

const CAUGHT_UP = `
  select p.position >= l.position as yes
  from ledger l cross join projections p
  where l.seq = $1 and p.name = 'sandboxes'
`

export async function readSandboxList(
  { db }: Gateway,
  wanted: ListSandboxes,
): Promise<{ sandboxes: SandboxRow[]; nextCursor: string | null }> {
  // A later page shows what its first one did not, whether new or not.
  if (wanted.cursor === undefined) await catchUp(db)
  return await listSandboxes(db, wanted)
}

async function catchUp(db: Gateway['db']): Promise<void> {
  const giveUpMs = performance.now() + CATCH_UP_MS_MAX
  const newest = (await db.query<{ seq: string | null }>(NEWEST)).rows[0]?.seq ?? null
  while (newest !== null && performance.now() < giveUpMs) {
    const { rows } = await db.query<{ yes: boolean }>(CAUGHT_UP, [newest])
    if (rows[0]?.yes) return
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
  }
}
