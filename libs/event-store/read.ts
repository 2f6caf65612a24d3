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

const READ_ADMINISTRATION = `
  -- The id of a token is never empty, so all its streams stand between these.
  select ${EVENT_COLUMNS}
  from events e left join ledger l on l.seq = e.seq
  where e.tenant = $1 and (e.stream = 'tenant:' || $2 or e.stream > 'token:' || $2 || ':' and e.stream < 'token:' || $2 || ';')
  order by e.seq desc
  limit 10000
`

/** What was decided about a tenant and its tokens, in the order in which it was written: the last 10,000 events. */
export async function readAdministration(
  db: Queryable,
  platform: string,
  tenant: string,
): Promise<RecordedEvent[]> {
  const { rows } = await db.query<EventRow>(READ_ADMINISTRATION, [platform, tenant])
  return rows.map(toEvent).reverse()
}

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

/** What was read in order of position, and the position up to which that is everything. */
export interface Page {
  events: RecordedEvent[]
  next: bigint
}

/** An event may have 1 MiB: by number alone, a page could be as much memory as a service has. */
const PAGE_BYTES_MAX = 8 * 1024 ** 2

/** What is compressed counts as what it will be: a few KiB may become 1 MiB. */
const EVENT_BYTES = `
  coalesce(pg_column_size(e.sealed), 0)
  + case when pg_column_compression(e.data) is null then pg_column_size(e.data) else octet_length(e.data::text) end
`

/** `selected`: rows with `bytes`. The event that makes the page full is still in it. */
const cutAtBytes = (selected: string) => `
  select *
  from (
    select *, sum(bytes) over (order by position rows unbounded preceding) as page_bytes
    from (${selected}) found
  ) counted
  where page_bytes - bytes < ${PAGE_BYTES_MAX}
  order by position
`

interface PageRow extends EventRow {
  page_bytes: string
}

/** `end`: what was looked through, unless the page was full before. */
function toPage(rows: PageRow[], end: bigint, limit = Number.POSITIVE_INFINITY): Page {
  const last = rows.at(-1)
  const isCut = last !== undefined && (rows.length >= limit || Number(last.page_bytes) >= PAGE_BYTES_MAX)
  return { events: rows.map(toEvent), next: isCut ? BigInt(last.position as string) : end }
}

const READ_PAGE = cutAtBytes(`
  select ${EVENT_COLUMNS}, ${EVENT_BYTES} as bytes
  from ledger l
  join events e on e.stream = l.stream and e.version = l.version
  where l.position > $1 and l.position <= $2
    and ($4::text is null or e.tenant = $4)
    and ($5::text[] is null or e.type = any($5))
    and ($6::timestamptz is null or e.at >= $6)
  order by l.position
  limit $3
`)

export interface PageOptions {
  afterPosition?: bigint
  limit?: number
  tenant?: string
  types?: string[]
  /** Events whose `at` is not before this. */
  since?: Date
}

/**
 * Events that have a position, after `afterPosition` (0), at most `limit` (1,000) and some MiB. `next` is where the
 * next page begins: the ledger's end when there are no more, so that nobody looks through others' events twice.
 */
export async function readPage(db: Queryable, options: PageOptions = {}): Promise<Page> {
  const { afterPosition = 0n, limit = 1000, tenant, types, since } = options
  const end = await lastPosition(db)
  if (end <= afterPosition) return { events: [], next: afterPosition }
  const values = [
    String(afterPosition),
    String(end),
    limit,
    tenant ?? null,
    types ?? null,
    since?.toISOString() ?? null,
  ]
  const { rows } = await db.query<PageRow>(READ_PAGE, values)
  return toPage(rows, end, limit)
}

const READ_WINDOW = cutAtBytes(`
  -- One look-up per position, whatever the planner thinks of the window: prepared once, planned once.
  select ${EVENT_COLUMNS}, ${EVENT_BYTES} as bytes
  from ledger l
  cross join lateral (
    select *
    from events
    where stream = l.stream and version = l.version
    limit 1
  ) e
  where l.position > $1 and l.position <= $2 and ($3::text[] is null or e.type = any($3) or not e.type = any($4::text[]))
`)

/** Events of the positions after `from` up to `until`, with `types` only these and those that are not `known`; `next` is less when they are many MiB. */
export async function readWindow(
  db: Queryable,
  from: bigint,
  until: bigint,
  types: string[] | null = null,
  known: string[] | null = null,
): Promise<Page> {
  const values = [String(from), String(until), types, known]
  const { rows } = await db.query<PageRow>({ name: 'read-window', text: READ_WINDOW, values })
  return toPage(rows, until)
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
