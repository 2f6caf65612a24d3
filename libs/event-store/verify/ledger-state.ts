/** What the sequencer itself keeps in the database: its checkpoints, and where it is. */

import type { Queryable } from '../database.js'
import { openCheckpoint } from '../ledger/checkpoint-note.js'
import { MerkleFrontier } from '../ledger/merkle.js'
import type { Findings } from './report.js'

const PAGE = 1_000

const CHECKPOINTS = `
  select size, root, note, frontier
  from checkpoints
  where size > $1
  order by size
  limit ${PAGE}
`

/** The roots were compared in the file. Here: no row says anything but what its signed note says. */
export async function checkStoredCheckpoints(
  db: Queryable,
  publicKey: string,
  findings: Findings,
): Promise<void> {
  let after = 0
  for (;;) {
    const { rows } = await db.query<{ size: string; root: Buffer; note: string; frontier: Buffer[] }>(
      CHECKPOINTS,
      [after],
    )
    for (const { size, root, note, frontier } of rows) {
      after = Number(size)
      const signed = openCheckpoint(note, publicKey)
      const isSame =
        signed?.size === after &&
        signed.root.equals(root) &&
        new MerkleFrontier(after, frontier).root().equals(root)
      if (!isSame) {
        findings.add(
          'checkpoint-invalid',
          { position: after },
          `the database's checkpoint of size ${size} was changed`,
        )
      }
    }
    if (rows.length < PAGE) return
  }
}

const SEQUENCER = `
  select s.position, coalesce(max(l.position), 0) as last
  from sequencer s left join ledger l on true
  group by s.position
`

export async function checkSequencer(db: Queryable, findings: Findings): Promise<void> {
  const { rows } = await db.query<{ position: string; last: string }>(SEQUENCER)
  const { position, last } = rows[0] ?? { position: 'nothing', last: '0' }
  if (position === last) return
  findings.add('state-altered', {}, `the sequencer is at position ${position}, the ledger ends at ${last}`)
}
