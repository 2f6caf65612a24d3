/** Cursors into the ledger. They only move forward. */

import type { Queryable } from '../database.js'

const MOVE = `
  insert into cursors as c (name, position)
  values ($1, $2)
  on conflict (name) do update
  set position = excluded.position, at = clock_timestamp()
  where c.position < excluded.position
`

export async function moveCursor(tx: Queryable, name: string, position: bigint): Promise<void> {
  await tx.query({ name: 'move-cursor', text: MOVE, values: [name, String(position)] })
}

const READ = `
  select position
  from cursors
  where name = $1
`

/** 0 for a cursor that was never moved. */
export async function readCursor(db: Queryable, name: string): Promise<bigint> {
  const { rows } = await db.query<{ position: string }>(READ, [name])
  return BigInt(rows[0]?.position ?? 0)
}
