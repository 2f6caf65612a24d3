/** Signed checkpoints in the database: for those who ask it, and for the next leader to go on from. */

import type { Queryable } from '../database.js'
import { MerkleFrontier } from './merkle.js'

const INSERT = `
  -- Two leaders would sign the same root of the same size: the ledger is fenced, so the first one stands.
  insert into checkpoints (size, root, note, frontier, term)
  values ($1, $2, $3, $4, $5)
  on conflict (size) do nothing
`

export async function insertCheckpoint(
  db: Queryable,
  frontier: MerkleFrontier,
  note: string,
  term: bigint,
): Promise<void> {
  await db.query(INSERT, [frontier.size, frontier.root(), note, frontier.roots, String(term)])
}

const LATEST = `
  select size, note, frontier
  from checkpoints
  order by size desc
  limit 1
`

/** The tree as of the newest checkpoint; empty when there is none. */
export async function latestFrontier(db: Queryable): Promise<MerkleFrontier> {
  const { rows } = await db.query<{ size: string; frontier: Buffer[] }>(LATEST)
  return rows[0] ? new MerkleFrontier(Number(rows[0].size), rows[0].frontier) : new MerkleFrontier()
}

/** The newest signed note, for clients to hold; null when there is none. */
export async function latestCheckpoint(db: Queryable): Promise<{ size: number; note: string } | null> {
  const { rows } = await db.query<{ size: string; note: string }>(LATEST)
  return rows[0] ? { size: Number(rows[0].size), note: rows[0].note } : null
}
