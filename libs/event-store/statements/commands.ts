/** The commands table: one row per decided command, which is what makes a re-send harmless. */

import type { Queryable } from '../database.js'
import type { CommandRef, JsonObject } from '../types.js'

export interface CommandRow {
  tenant: string
  command: CommandRef
  /** JSON. */
  outcome: string
  rejected: boolean
  attempt: string
}

const INSERT_COMMAND = `
  insert into commands (tenant, command_id, verb, hash, outcome, rejected, attempt, expires_at)
  values ($1, $2, $3, $4, $5, $6, $7, clock_timestamp() + interval '1 hour')
  on conflict (tenant, command_id) do nothing
`

/**
 * To be rolled back: true when no transaction has this key, waiting for one that is still committing. Whether the command
 * has expired by now says nothing about that.
 */
export async function isFree(
  tx: Queryable,
  { tenant, command, outcome, rejected, attempt }: CommandRow,
): Promise<boolean> {
  const values = [tenant, command.id, command.verb, command.hash, outcome, rejected, attempt]
  const { rowCount } = await tx.query(INSERT_COMMAND, values)
  return rowCount === 1
}

const SELECT_COMMAND = `
  select hash, outcome, rejected, attempt
  from commands
  where tenant = $1 and command_id = $2
`

export interface StoredCommand {
  hash: Buffer
  outcome: JsonObject
  rejected: boolean
  attempt: string
}

export async function findStoredCommand(
  db: Queryable,
  tenant: string,
  commandId: string,
): Promise<StoredCommand | null> {
  const values = [tenant, commandId]
  const { rows } = await db.query<StoredCommand>({ name: 'select-command', text: SELECT_COMMAND, values })
  return rows[0] ?? null
}

const DELETE_EXPIRED = `
  delete from commands
  where (tenant, command_id) in (
    select tenant, command_id
    from commands
    where expires_at < clock_timestamp() - interval '1 day'
    order by expires_at
    limit $1
  )
`

/** A round: none of them holds its locks for long. */
const PURGE_BATCH = 1_000
/** Of one call: more than a minute of the highest rate of commands that was measured. */
const PURGE_ROUNDS_MAX = 500

/**
 * Removes commands that expired more than a day ago: one that is sent again after its expiry is refused whether or not its
 * first outcome is known; the day is for clocks, and for whoever looks. Their events stay. Returns how many went.
 */
export async function purgeCommands(db: Queryable): Promise<number> {
  let removed = 0
  for (let round = 1; round <= PURGE_ROUNDS_MAX; round++) {
    const { rowCount } = await db.query(DELETE_EXPIRED, [PURGE_BATCH])
    removed += rowCount ?? 0
    if ((rowCount ?? 0) < PURGE_BATCH) break
  }
  return removed
}

const COUNT_EXPIRED = `
  select count(*)::int as count
  from commands
  where expires_at < clock_timestamp() - interval '1 day'
`

/** How many `purgeCommands` would remove. */
export async function countPurgeable(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ count: number }>(COUNT_EXPIRED)
  return rows[0]?.count ?? 0
}
