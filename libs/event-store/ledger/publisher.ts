/**
 * Hands placed events to the broker, in order, each at least once. The cursor moves after the broker's acks, so a
 * crash publishes a batch again; consumers skip by position. A broker that lost its store is refilled by setting the
 * cursor back.
 */

import type { Database, Queryable } from '../database.js'
import { Loop } from '../loop.js'
import { readAll } from '../read.js'
import { readCursor } from '../statements/cursors.js'
import type { RecordedEvent } from '../types.js'

/** Resolves when the broker has acknowledged all of them. */
export type Publish = (events: RecordedEvent[]) => Promise<void>

const CURSOR = 'publisher'
const BATCH = 500
const POLL_MS = 250

export class Publisher {
  private readonly loop: Loop

  constructor(
    private readonly db: Database,
    private readonly publish: Publish,
    onError: (error: unknown) => void,
  ) {
    this.loop = new Loop(() => this.publishNext(), { pollMs: POLL_MS, onError })
  }

  start(): void {
    this.loop.start()
  }

  async stop(): Promise<void> {
    await this.loop.stop()
  }

  nudge(): void {
    this.loop.nudge()
  }

  private async publishNext(): Promise<boolean> {
    const from = await readCursor(this.db, CURSOR)
    const events = await readAll(this.db, { afterPosition: from, limit: BATCH })
    const last = events.at(-1)?.position
    if (last === undefined || last === null) return false
    await this.publish(events)
    await moveFrom(this.db, from, last)
    return true
  }
}

const MOVE_FROM = `
  -- Compare and set: a cursor that was set back meanwhile stays there.
  insert into cursors as c (name, position)
  values ($1, $3)
  on conflict (name) do update
  set position = excluded.position, at = clock_timestamp()
  where c.position = $2
`

async function moveFrom(db: Queryable, from: bigint, to: bigint): Promise<void> {
  await db.query(MOVE_FROM, [CURSOR, String(from), String(to)])
}

const SET_BACK = `
  update cursors
  set position = $2, at = clock_timestamp()
  where name = $1 and position > $2
`

/** Every event from this position on is published (again). From any process; the leader sees it with its next poll. */
export async function republishFrom(db: Queryable, position: bigint): Promise<void> {
  await db.query(SET_BACK, [CURSOR, String(position > 0n ? position - 1n : 0n)])
}
