/** How far the ledger is behind the log, and the broker behind the ledger; and whether anybody leads. */

import type { Queryable } from '../database.js'

export interface LedgerLag {
  /** Committed events without a position, counted up to 100,000. */
  unplacedEvents: number
  /** Events with a position that the broker has not acknowledged. */
  unpublishedEvents: number
  /** Of the sequencer's leader, by the database's clock; null: none leads. */
  leaderHeartbeatAgeMs: number | null
}

const READ = `
  -- The floor bounds how far back this looks; the limit, what a scrape costs while the sequencer is away.
  select (
      select count(*) from (
        select from events e
        where e.seq > s.floor and not exists (select from ledger l where l.seq > s.floor and l.seq = e.seq)
        limit 100000
      ) unplaced
    ) as unplaced,
    s.position - coalesce((select position from cursors where name = 'publisher'), 0) as unpublished,
    case when s.leader is not null
      then extract(epoch from clock_timestamp() - s.heartbeat_at)::double precision * 1000 end as heartbeat_age_ms
  from sequencer s
`

export async function readLedgerLag(db: Queryable): Promise<LedgerLag> {
  interface Row {
    unplaced: string
    unpublished: string
    heartbeat_age_ms: number | null
  }
  const { rows } = await db.query<Row>(READ)
  const row = rows[0]!
  return {
    unplacedEvents: Number(row.unplaced),
    unpublishedEvents: Math.max(0, Number(row.unpublished)),
    leaderHeartbeatAgeMs: row.heartbeat_age_ms,
  }
}

const FOLLOWERS = `
  select f.name as follower, last.position - f.position as events
  from (select name, position from cursors union all select name, position from projections) f
  cross join (select coalesce(max(position), 0) as position from ledger) last
  order by f.name
`

/** How many positions each follower of the ledger has before it. One that stays behind has met what it cannot handle. */
export async function readFollowerLags(db: Queryable): Promise<{ follower: string; events: number }[]> {
  const { rows } = await db.query<{ follower: string; events: string }>(FOLLOWERS)
  return rows.map(({ follower, events }) => ({ follower, events: Number(events) }))
}
