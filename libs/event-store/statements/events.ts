/** The events table: heads to build on, and the insert that the primary key guards. */

import type { Queryable } from '../database.js'
import type { Envelope } from '../envelope.js'

const SELECT_HEADS = `
  select h.stream, h.version, h.hash
  from unnest($1::text[]) as s (stream)
  cross join lateral (
    select e.stream, e.version, e.hash
    from events e
    where e.stream = s.stream
    order by e.version desc
    limit 1
  ) h
`

export interface Head {
  stream: string
  version: number
  hash: Buffer
}

/** The newest event of each stream that has one. */
export async function selectHeads(db: Queryable, streams: string[]): Promise<Map<string, Head>> {
  const { rows } = await db.query<Head>({ name: 'select-heads', text: SELECT_HEADS, values: [streams] })
  return new Map(rows.map((head) => [head.stream, head]))
}

const INSERT_EVENTS = `
  -- The key (stream, version) is the optimistic lock; versions have no gap, for each builds on a committed head.
  insert into events (tenant, stream, version, event_id, type, type_version, at, data, sealed, meta, prev_hash, hash)
  select e.tenant, e.stream, e.version, e.event_id, e.type, e.type_version, e.at, e.data,
         decode(e.sealed, 'hex'), e.meta, decode(e.prev_hash, 'hex'), decode(e.hash, 'hex')
  from jsonb_to_recordset($1::jsonb) as e (
    tenant text, stream text, version integer, event_id uuid, type text, type_version smallint, at timestamptz,
    data jsonb, sealed text, meta jsonb, prev_hash text, hash text
  )
  on conflict (stream, version) do nothing
  returning stream, version
`

/** Returns the stream whose version another append has taken, or null when all are in. */
export async function insertEvents(
  tx: Queryable,
  events: (Envelope & { hash: Buffer })[],
): Promise<string | null> {
  const values = [JSON.stringify(events.map(toRow))]
  const { rows } = await tx.query<{ stream: string; version: number }>({
    name: 'insert-events',
    text: INSERT_EVENTS,
    values,
  })
  if (rows.length === events.length) return null
  const inserted = new Set(rows.map((row) => `${row.version} ${row.stream}`))
  return events.find((event) => !inserted.has(`${event.version} ${event.stream}`))?.stream ?? null
}

function toRow(event: Envelope & { hash: Buffer }) {
  return {
    tenant: event.tenant,
    stream: event.stream,
    version: event.version,
    event_id: event.eventId,
    type: event.type,
    type_version: event.typeVersion,
    at: event.at.toISOString(),
    data: event.data,
    sealed: event.sealed?.toString('hex') ?? null,
    meta: event.meta,
    prev_hash: event.prevHash.toString('hex'),
    hash: event.hash.toString('hex'),
  }
}
