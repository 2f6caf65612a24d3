/** The sequencer's statements: who leads, and which event gets which position. */

import type { Queryable } from '../database.js'
import type { TrailEntry } from './trail-file.js'

/** A leader that has not been heard for so long is replaced; it writes its heartbeat every second. */
const LEADER_LOSS_MS = 3_000

export interface Lead {
  term: bigint
  /** The last position given, by any leader. */
  position: number
  /** Every event up to this seq is in the ledger, and no older one can come any more. */
  floor: bigint
}

const TAKE_LEAD = `
  -- The term only grows: it fences whatever an older leader still sends.
  update sequencer
  set term = term + 1, leader = $1, heartbeat_at = clock_timestamp()
  where leader = $1 or heartbeat_at < clock_timestamp() - $2 * interval '1 millisecond'
  returning term, position, floor
`

/** Null while another leader is heard. */
export async function takeLead(db: Queryable, leader: string): Promise<Lead | null> {
  const values = [leader, LEADER_LOSS_MS]
  const { rows } = await db.query<{ term: string; position: string; floor: string }>(TAKE_LEAD, values)
  const row = rows[0]
  if (row === undefined) return null
  return { term: BigInt(row.term), position: Number(row.position), floor: BigInt(row.floor) }
}

const RELEASE_LEAD = `
  update sequencer
  set leader = null, heartbeat_at = '-infinity'
  where term = $1
`

/** The next leader need not wait. */
export async function releaseLead(db: Queryable, term: bigint): Promise<void> {
  await db.query(RELEASE_LEAD, [String(term)])
}

const PLACE = `
  -- One statement, so that a leader that is stopped half-way holds no lock: the server finishes without it.
  with pending as materialized (
    select e.seq, e.stream, e.version, e.hash, row_number() over (order by e.seq) as n
    from events e
    -- The floor only bounds how far back this looks. It is repeated inside, so that a merge join starts there too.
    where e.seq > $3 and not exists (select from ledger l where l.seq > $3 and l.seq = e.seq)
    order by e.seq
    limit $4
  ), lead as (
    -- Both conditions fence: a leader of an older term, and a retry of our own that was carried out already.
    update sequencer
    set heartbeat_at = clock_timestamp(), position = position + (select count(*) from pending), floor = $3
    where term = $1 and position = $2
    returning term
  ), placed as (
    insert into ledger (position, seq, stream, version, hash, term)
    select $2 + n, seq, stream, version, hash, term
    from pending cross join lead
    returning position, seq, stream, version, hash
  )
  select p.position, p.seq, p.stream, p.version, encode(p.hash, 'hex') as hash,
         pg_snapshot_xmin(pg_current_snapshot()) as xmin, pg_current_xact_id() as xid
  from lead left join placed p on true
  order by p.position
`

export interface Placed {
  entries: TrailEntry[]
  /** The newest seq among the entries; null when there are none. */
  newestSeq: bigint | null
  /** Every transaction with a smaller id had ended when this batch was taken. */
  xmin: bigint
  /** Of this statement: every transaction that was under way then has a smaller id. */
  xid: bigint
}

/** Places at most `limit` events, oldest insert first. Null: this is not the leader (any more). */
export async function placeEvents(db: Queryable, lead: Lead, limit: number): Promise<Placed | null> {
  interface Row {
    position: string | null
    seq: string
    stream: string
    version: number
    hash: string
    xmin: string
    xid: string
  }
  const values = [String(lead.term), lead.position, String(lead.floor), limit]
  const { rows } = await db.query<Row>({ name: 'place', text: PLACE, values })
  const [first] = rows
  if (first === undefined) return null
  const placed = first.position === null ? [] : rows
  const seqs = placed.map((row) => BigInt(row.seq))
  return {
    entries: placed.map(({ position, stream, version, hash }) => ({
      position: Number(position),
      stream,
      version,
      hash,
    })),
    newestSeq: seqs.at(-1) ?? null,
    xmin: BigInt(first.xmin),
    xid: BigInt(first.xid),
  }
}

const READ_LEDGER = `
  select position, stream, version, encode(hash, 'hex') as hash
  from ledger
  where position > $1
  order by position
  limit $2
`

/** The ledger as the file outside has it. */
export async function readEntries(
  db: Queryable,
  afterPosition: number,
  limit: number,
): Promise<TrailEntry[]> {
  const { rows } = await db.query<Omit<TrailEntry, 'position'> & { position: string }>(READ_LEDGER, [
    afterPosition,
    limit,
  ])
  return rows.map(({ position, stream, version, hash }) => ({
    position: Number(position),
    stream,
    version,
    hash,
  }))
}
