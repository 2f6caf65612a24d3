/** A read model that follows the ledger, its checkpoint in the same transaction, and that can be built again. */

import type { KnownEvents } from '#libs/domain'
import { type Database, type Transaction, transaction } from './database.js'
import { type Following, followAll, followNext, makeCursor } from './follow.js'
import { Loop } from './loop.js'
import type { FollowerLog } from './subscription.js'
import type { RecordedEvent } from './types.js'

export interface Projection {
  name: string
  /** Everything that `apply` writes to: emptied by a rebuild. */
  tables: string[]
  types?: string[]
  /** What is not among these is waited before, see `Following`. */
  knows?: KnownEvents
  /** Applies some events, in order of position; must depend on nothing but the events and its own tables. */
  apply(tx: Transaction, events: RecordedEvent[]): Promise<void>
}

const BATCH = 500
/** Behind the nudge, which every placed event is followed by. */
const POLL_MS = 1_000
/** Positions per query of a rebuild, where nobody waits for the first. */
const REBUILD_BATCH = 5_000

export class Projector {
  private readonly loop: Loop

  constructor(
    private readonly db: Database,
    private readonly projection: Projection,
    log?: FollowerLog,
  ) {
    const onError = (err: unknown) =>
      log?.warn({ err, projection: projection.name }, 'a projection failed, it tries again')
    this.loop = new Loop(() => this.step(), { pollMs: POLL_MS, onError })
  }

  start(): void {
    this.loop.start()
  }

  async stop(): Promise<void> {
    await this.loop.stop()
  }

  /** There may be new positions. */
  nudge(): void {
    this.loop.nudge()
  }

  private async step(): Promise<boolean> {
    return (await followNext(this.db, followingOf(this.projection), BATCH)) === BATCH
  }
}

/**
 * Builds the projection again from position 1, in one transaction: readers see the old rows until it commits, and a
 * projector that runs meanwhile waits its turn.
 */
export async function rebuildProjection(db: Database, projection: Projection): Promise<void> {
  await makeCursor(db, followingOf(projection))
  await transaction(db, (tx) => rebuildWithin(tx, projection))
}

/** The same in a transaction of the caller's; its cursor must exist. */
export async function rebuildWithin(tx: Transaction, projection: Projection): Promise<void> {
  await tx.query('set local statement_timeout = 0')
  await tx.query('select position from projections where name = $1 for update', [projection.name])
  // Not truncate: that would lock the readers out.
  for (const table of projection.tables) await tx.query(`delete from ${table}`)
  await followAll(tx, followingOf(projection), REBUILD_BATCH)
}

function followingOf({ name, types, knows, apply }: Projection): Following {
  const following: Following = { table: 'projections', name, handle: apply }
  return { ...following, ...(types && { types }), ...(knows && { knows }) }
}
