/** Every read model against one built anew from position 0, in a transaction that is rolled back (I-9). */

import { setTimeout as delay } from 'node:timers/promises'
import {
  type Database,
  type Projection,
  rebuildWithin,
  sandboxesProjection,
  type Transaction,
} from '#libs/event-store'
import { imagesProjection } from '../../apps/snapshotter/images-table.js'
import { snapshotsProjection } from '../../apps/snapshotter/snapshots-table.js'
import { type Finding, finding } from './finding.js'
import type { JudgedStreams } from './streams.js'

const PROJECTIONS: readonly { projection: Projection; key: string }[] = [
  { projection: sandboxesProjection, key: 'sandbox_id' },
  { projection: imagesProjection, key: 'image_id' },
  { projection: snapshotsProjection, key: 'snapshot_id' },
]
/** A follower looks once a second. */
const CATCH_UP_MS = 10_000

type Row = Record<string, unknown> & { position?: string }

export async function judgeProjections(db: Database): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const { projection, key } of PROJECTIONS)
    findings.push(...(await judgeProjection(db, projection, key)))
  return findings
}

async function judgeProjection(db: Database, projection: Projection, key: string): Promise<Finding[]> {
  const { name, tables } = projection
  if (!(await caughtUp(db, name)))
    return [finding('stuck', 'I-9', {}, `the read model ${name} does not follow the ledger`)]
  const client = await db.connect()
  try {
    await client.query('begin')
    const findings: Finding[] = []
    // The follower waits from here on, so both see the same events.
    await client.query('select from projections where name = $1 for update', [name])
    const live = await rowsOf(client, tables, key)
    await rebuildWithin(client, projection)
    const built = await rowsOf(client, tables, key)
    for (const [id, row] of built) {
      const other = live.get(id)
      const at = { stream: id, position: Number(row.position) }
      if (other === undefined)
        findings.push(finding('lost', 'I-9', at, `the read model ${name} has lost its row`))
      else if (JSON.stringify(other) !== JSON.stringify(row)) {
        findings.push(finding('phantom', 'I-9', at, `the read model ${name} has ${differences(other, row)}`))
      }
    }
    for (const id of live.keys()) {
      if (!built.has(id))
        findings.push(
          finding('phantom', 'I-9', { stream: id }, `the read model ${name} has a row that no event made`),
        )
    }
    return findings
  } finally {
    await client.query('rollback')
    client.release()
  }
}

async function caughtUp(db: Database, name: string): Promise<boolean> {
  const giveUpAt = performance.now() + CATCH_UP_MS
  for (;;) {
    const { rows } = await db.query(
      'select from projections where name = $1 and position >= (select coalesce(max(position), 0) from ledger)',
      [name],
    )
    if (rows.length > 0) return true
    if (performance.now() > giveUpAt) return false
    await delay(50)
  }
}

async function rowsOf(tx: Transaction, tables: readonly string[], key: string): Promise<Map<string, Row>> {
  const found = new Map<string, Row>()
  for (const table of tables) {
    const { rows } = await tx.query<Row>(`select * from ${table}`)
    for (const row of rows) found.set(String(row[key]), row)
  }
  return found
}

function differences(live: Row, built: Row): string {
  const keys = Object.keys(built).filter((key) => JSON.stringify(live[key]) !== JSON.stringify(built[key]))
  return keys
    .map((key) => `${key} ${JSON.stringify(live[key])} instead of ${JSON.stringify(built[key])}`)
    .join(', ')
}

/** The scheduler's index of open execs, which it delivers again by: the same as the streams say. */
export async function judgeOpenExecs(db: Database, { states }: JudgedStreams): Promise<Finding[]> {
  const { rows } = await db.query<{ exec_id: string; started: boolean }>(
    'select exec_id, started from open_execs',
  )
  const table = new Map(rows.map((row) => [row.exec_id, row.started]))
  const findings: Finding[] = []
  for (const [stream, { status }] of states) {
    if (!stream.startsWith('ex-')) continue
    const isOpen = status !== 'ended'
    const started = table.get(stream)
    if (isOpen && started === undefined)
      findings.push(finding('lost', 'I-9', { stream }, 'open_execs has lost it'))
    else if (isOpen && started !== (status === 'running'))
      findings.push(
        finding('phantom', 'I-9', { stream }, `open_execs has started ${started}, it is ${status}`),
      )
    else if (!isOpen && started !== undefined)
      findings.push(finding('phantom', 'I-9', { stream }, 'open_execs has it, and it has ended'))
    table.delete(stream)
  }
  for (const stream of table.keys())
    findings.push(finding('phantom', 'I-9', { stream }, 'open_execs has an exec that no event made'))
  return findings
}
