/** The list of snapshots: a read model that follows the ledger. */

import { KNOWN_EVENTS, type SnapshotEvent, type SnapshotId } from '#libs/domain'
import type { Projection, Queryable, RecordedEvent, Transaction } from '#libs/event-store'

export const snapshotsProjection: Projection = {
  name: 'snapshots',
  tables: ['snapshots'],
  knows: KNOWN_EVENTS,
  types: ['SnapshotRequested', 'SnapshotCompleted', 'SnapshotFailed'],
  async apply(tx, events) {
    for (const event of events) await apply(tx, event)
  },
}

const INSERT = `
  insert into snapshots (snapshot_id, tenant, sandbox_id, worker_id, image_id, parent, state, created_at, position)
  values ($1, $2, $3, $4, $5, $6, 'requested', $7, $8)
`
const END = `
  update snapshots
  set state = $2, took_ms = $3, error = $4, ended_at = $5, position = $6
  where snapshot_id = $1
`

async function apply(tx: Transaction, recorded: RecordedEvent): Promise<void> {
  const event = recorded as unknown as SnapshotEvent
  const { stream, tenant, at } = recorded
  const position = String(recorded.position)
  switch (event.type) {
    case 'SnapshotRequested': {
      const { sandboxId, workerId, imageId, parent } = event.data
      await tx.query(INSERT, [stream, tenant, sandboxId, workerId, imageId, parent, at, position])
      return
    }
    case 'SnapshotCompleted':
      await tx.query(END, [stream, 'completed', event.data.tookMs, null, at, position])
      return
    case 'SnapshotFailed':
      await tx.query(END, [stream, 'failed', null, JSON.stringify(event.data), at, position])
  }
}

const SELECT = `
  select snapshot_id as "snapshotId", sandbox_id as "sandboxId", image_id as "imageId", parent, state,
         worker_id as "workerId", took_ms as "tookMs", error, created_at as "createdAt", ended_at as "endedAt"
  from snapshots
`
const LIST = `
  ${SELECT}
  where tenant = $1 and ($2::text is null or snapshot_id < $2) and ($4::text is null or sandbox_id = $4)
  order by snapshot_id desc
  limit $3
`
const GET = `
  ${SELECT}
  where tenant = $1 and snapshot_id = $2
`

/** Newest first. */
export async function listSnapshots(
  db: Queryable,
  tenant: string,
  { limit, cursor, sandboxId }: { limit: number; cursor: string | null; sandboxId: string | null },
) {
  return (await db.query(LIST, [tenant, cursor, limit, sandboxId])).rows as object[]
}

export async function getSnapshot(db: Queryable, tenant: string, snapshotId: string): Promise<object | null> {
  return ((await db.query(GET, [tenant, snapshotId])).rows[0] as object | undefined) ?? null
}

const UNFINISHED = `
  select snapshot_id as "snapshotId", tenant
  from snapshots
  where state = 'requested'
`

export async function unfinishedSnapshots(
  db: Queryable,
): Promise<{ snapshotId: SnapshotId; tenant: string }[]> {
  return (await db.query<{ snapshotId: SnapshotId; tenant: string }>(UNFINISHED)).rows
}
