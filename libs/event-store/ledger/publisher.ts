/**
 * Hands placed events to the broker, in order, each at least once. The cursor moves after the broker's acks, so a
 * crash publishes a batch again; consumers skip by position. A broker that lost its store is refilled by setting the
 * cursor back.
 */

import type { Database, Queryable } from '../database.js'
import { Loop } from '../loop.js'
import { readWindow } from '../read.js'
import type { RecordedEvent } from '../types.js'

/** Resolves when the broker has acknowledged all of them. */
export type Publish = (events: RecordedEvent[]) => Promise<void>

const CURSOR = 'publisher'
const BATCH = 500n
/** Behind the sequencer's nudge: for a cursor that was set back. */
const POLL_MS = 1_000

export class Publisher {
  private readonly loop: Loop
  /** As this one has left it: it is read again when nothing is behind it, and when another has moved it. */
  private cursor: Cursor | null = null

  constructor(
    private readonly db: Database,
    private readonly publish: Publish,
    onError: (error: unknown) => void,
  ) {
    this.loop = new Loop(() => this.publishNext(), { pollMs: POLL_MS, onError })
  }

  start(): void {
    this.cursor = null
    this.loop.start()
  }

  async stop(): Promise<void> {
    await this.loop.stop()
  }

  nudge(): void {
    this.loop.nudge()
  }

  private async publishNext(): Promise<boolean> {
    const known = this.cursor
    this.cursor = null
    const from = known ?? (await readCursor(this.db))
    const until = from.position + BATCH
    const { events, next } = await readWindow(this.db, from.position, until)
    const last = events.at(-1)?.position
    // Nothing behind the one that was kept: another may have set it back.
    if (last === undefined || last === null) return known !== null
    await this.publish(events)
    this.cursor = await moveFrom(this.db, from, last)
    return next < until || BigInt(events.length) === BATCH
  }
}

/** `at` tells whether anybody has touched the cursor since, also to leave it where it was. */
interface Cursor {
  position: bigint
  at: string
}

const READ = `
  with made as (
    insert into cursors (name)
    values ($1)
    on conflict (name) do nothing
    returning position, at
  )
  select position, at::text from made
  union all
  select position, at::text from cursors where name = $1
`

async function readCursor(db: Queryable): Promise<Cursor> {
  const { rows } = await db.query<{ position: string; at: string }>({
    name: 'read-publisher',
    text: READ,
    values: [CURSOR],
  })
  const [row] = rows
  if (row === undefined) throw new Error('the cursor was just made by another publisher')
  return { position: BigInt(row.position), at: row.at }
}

const MOVE_FROM = `
  -- Compare and set: what was under way when events were asked for again may be in the lost store.
  update cursors
  set position = $4, at = clock_timestamp()
  -- Not waited for on disk: a move that is lost publishes a batch again.
  from (select set_config('synchronous_commit', 'off', true)) as lazy
  where name = $1 and position = $2 and at = $3::timestamptz
  returning position, at::text
`

/** Null when somebody else has moved it. */
async function moveFrom(db: Queryable, { position, at }: Cursor, to: bigint): Promise<Cursor | null> {
  const values = [CURSOR, String(position), at, String(to)]
  const { rows } = await db.query<{ position: string; at: string }>({
    name: 'move-publisher',
    text: MOVE_FROM,
    values,
  })
  return rows[0] ? { position: BigInt(rows[0].position), at: rows[0].at } : null
}

const SET_BACK = `
  insert into cursors as c (name)
  values ($1)
  on conflict (name) do update
  set position = least(c.position, $2), at = clock_timestamp()
`

/** Every event from this position on is published (again). From any process; the leader sees it with its next poll. */
export async function republishFrom(db: Queryable, position: bigint): Promise<void> {
  await db.query(SET_BACK, [CURSOR, String(position > 0n ? position - 1n : 0n)])
}
