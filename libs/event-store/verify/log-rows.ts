/** The log as verify reads it: the ledger with its events beside, in the order of positions, page by page. */

import type { Queryable } from '../database.js'
import type { TrailEntry } from '../ledger/trail-file.js'

/** An event's columns, JSON as text: what is hashed must not have lost anything on the way. */
export interface RawEvent {
  seq: string
  event_id: string
  tenant: string
  stream: string
  version: number
  type: string
  type_version: number
  at: Date
  data: string
  sealed: Buffer | null
  meta: string
  prev_hash: Buffer
  hash: Buffer
  /** Of the version before, as it stands in the table; null for the first one and where it is missing. */
  predecessor_hash: Buffer | null
}

export interface LedgerRow {
  entry: TrailEntry
  seq: string
  /** Null when the event is gone. */
  event: RawEvent | null
}

const EVENT_COLUMNS = `
  e.seq, e.event_id, e.tenant, e.stream, e.version, e.type, e.type_version, e.at, e.data::text, e.sealed,
  e.meta::text, e.prev_hash, e.hash, p.hash as predecessor_hash
`

type Row = RawEvent & {
  position: string
  ledger_seq: string
  ledger_stream: string
  ledger_version: number
  ledger_hash: string
}

/** Events have up to 1 MiB, most below 1 KiB: a page is a compromise between memory and round trips. */
const PAGE = 250

const LEDGER_PAGE = `
  select l.position, l.seq as ledger_seq, l.stream as ledger_stream, l.version as ledger_version,
         encode(l.hash, 'hex') as ledger_hash, ${EVENT_COLUMNS}
  from ledger l
  left join events e on e.stream = l.stream and e.version = l.version
  left join events p on p.stream = l.stream and p.version = l.version - 1
  where l.position > $1 and ($3::text is null or l.stream = $3)
  order by l.position
  limit $2
`

/** Every row of the ledger, or those of one stream. Within a transaction. */
export async function* ledgerRows(db: Queryable, stream: string | null): AsyncGenerator<LedgerRow> {
  // Without statistics (a fresh restore) the planner would hash the whole log for each page.
  await db.query('set local enable_hashjoin = off; set local enable_mergejoin = off')
  let after = '0'
  for (;;) {
    const { rows } = await db.query<Row>(LEDGER_PAGE, [after, PAGE, stream])
    for (const row of rows) {
      const { position, ledger_seq, ledger_stream, ledger_version, ledger_hash, ...event } = row
      after = position
      yield {
        entry: {
          position: Number(position),
          stream: ledger_stream,
          version: ledger_version,
          hash: ledger_hash,
        },
        seq: ledger_seq,
        event: row.event_id === null ? null : event,
      }
    }
    if (rows.length < PAGE) return
  }
}

const ONE_EVENT = `
  select ${EVENT_COLUMNS}
  from events e
  left join events p on p.stream = e.stream and p.version = e.version - 1
  where e.stream = $1 and e.version = $2
`

export async function findEvent(db: Queryable, stream: string, version: number): Promise<RawEvent | null> {
  const { rows } = await db.query<RawEvent>(ONE_EVENT, [stream, version])
  return rows[0] ?? null
}

export async function findLedgerEntry(db: Queryable, position: number): Promise<TrailEntry | null> {
  const { rows } = await db.query<Omit<TrailEntry, 'position'>>(
    `select stream, version, encode(hash, 'hex') as hash from ledger where position = $1`,
    [position],
  )
  return rows[0] ? { position, ...rows[0] } : null
}

const DECLARE_UNPLACED = `
  -- By stream and version: a seq can be forged, so that the sequencer believes that it has placed the event.
  declare unplaced no scroll cursor for
  select e.stream, e.version, exists (select from ledger l where l.seq = e.seq) or e.seq <= s.floor as overlooked
  from events e
  cross join sequencer s
  where not exists (select from ledger l where l.stream = e.stream and l.version = e.version)
  order by e.seq
`

const UNPLACED_PAGE = `
  fetch ${PAGE} from unplaced
`

export interface UnplacedEvent extends RawEvent {
  /** The sequencer will never place it. */
  overlooked: boolean
}

/** Events without a position, in the order in which they will get one. Within a transaction. */
export async function* unplacedEvents(db: Queryable): AsyncGenerator<UnplacedEvent> {
  // The ledger has no index by stream: one pass over both, whatever the planner believes of their sizes.
  await db.query(
    'set local enable_hashjoin = on; set local enable_mergejoin = on; set local enable_nestloop = off',
  )
  await db.query(DECLARE_UNPLACED)
  await db.query('set local enable_nestloop = on')
  for (;;) {
    const { rows } = await db.query<{ stream: string; version: number; overlooked: boolean }>(UNPLACED_PAGE)
    for (const { stream, version, overlooked } of rows) {
      const event = await findEvent(db, stream, version)
      if (event !== null) yield { ...event, overlooked }
    }
    if (rows.length < PAGE) break
  }
  await db.query('close unplaced')
}
