/** Reading events back: by stream, and by position. */

import type { Queryable } from './database.js'
import type { EventMeta, JsonObject, RecordedEvent } from './types.js'

/** As selected below; also the form in which other modules of this library select events. */
export interface EventRow {
  event_id: string
  tenant: string
  stream: string
  version: number
  type: string
  type_version: number
  at: Date
  data: JsonObject
  sealed: Buffer | null
  meta: EventMeta
  prev_hash: Buffer
  hash: Buffer
  position: string | null
}

export const EVENT_COLUMNS = `
  e.event_id, e.tenant, e.stream, e.version, e.type, e.type_version, e.at, e.data, e.sealed, e.meta,
  e.prev_hash, e.hash, l.position
`

export function toEvent(row: EventRow): RecordedEvent {
  return {
    eventId: row.event_id,
    tenant: row.tenant,
    stream: row.stream,
    version: row.version,
    type: row.type,
    typeVersion: row.type_version,
    at: row.at,
    data: row.data,
    sealed: row.sealed,
    meta: row.meta,
    prevHash: row.prev_hash,
    hash: row.hash,
    position: row.position === null ? null : BigInt(row.position),
  }
}

const READ_STREAM = `
  select ${EVENT_COLUMNS}
  from events e left join ledger l on l.seq = e.seq
  where e.stream = $1 and e.version >= $2
  order by e.version
  limit $3
`

/** Events of one stream in order of version, from `fromVersion` (1) on, at most `limit` (10,000). */
export async function readStream(
  db: Queryable,
  stream: string,
  { fromVersion = 1, limit = 10_000 }: { fromVersion?: number; limit?: number } = {},
): Promise<RecordedEvent[]> {
  const values = [stream, fromVersion, limit]
  const { rows } = await db.query<EventRow>({ name: 'read-stream', text: READ_STREAM, values })
  return rows.map(toEvent)
}

const READ_ALL = `
  select ${EVENT_COLUMNS}
  from ledger l
  join events e on e.stream = l.stream and e.version = l.version
  where l.position > $1
    and ($3::text is null or e.tenant = $3)
    and ($4::text[] is null or e.type = any($4))
    and ($5::text is null or l.stream = $5)
    and ($6::timestamptz is null or e.at >= $6)
    and ($7::bigint is null or l.position <= $7)
  order by l.position
  limit $2
`

export interface ReadAllOptions {
  afterPosition?: bigint
  untilPosition?: bigint
  limit?: number
  tenant?: string
  types?: string[]
  stream?: string
  /** Events whose `at` is not before this. */
  since?: Date
}

/** Events that have a position, in its order, after `afterPosition` (0), at most `limit` (1,000). */
export async function readAll(db: Queryable, options: ReadAllOptions = {}): Promise<RecordedEvent[]> {
  const { afterPosition = 0n, untilPosition, limit = 1000, tenant, types, stream, since } = options
  const values = [
    String(afterPosition),
    limit,
    tenant ?? null,
    types ?? null,
    stream ?? null,
    since?.toISOString() ?? null,
    untilPosition === undefined ? null : String(untilPosition),
  ]
  const { rows } = await db.query<EventRow>(READ_ALL, values)
  return rows.map(toEvent)
}

const READ_WINDOW = `
  -- One look-up per position, whatever the planner thinks of the window: prepared once, planned once.
  select ${EVENT_COLUMNS}
  from ledger l
  cross join lateral (
    select *
    from events
    where stream = l.stream and version = l.version
    limit 1
  ) e
  where l.position > $1 and l.position <= $2 and ($3::text[] is null or e.type = any($3))
  order by l.position
`

/** Events of the positions after `from` up to `until`, in order; with `types`, only these. */
export async function readWindow(
  db: Queryable,
  from: bigint,
  until: bigint,
  types: string[] | null = null,
): Promise<RecordedEvent[]> {
  const values = [String(from), String(until), types]
  const { rows } = await db.query<EventRow>({ name: 'read-window', text: READ_WINDOW, values })
  return rows.map(toEvent)
}

const LAST_POSITION = `
  select coalesce(max(position), 0) as position
  from ledger
`

/** The newest position; 0 while there is none. */
export async function lastPosition(db: Queryable): Promise<bigint> {
  const { rows } = await db.query<{ position: string }>(LAST_POSITION)
  return BigInt(rows[0]?.position ?? 0)
}
