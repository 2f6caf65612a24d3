/** The commands table: one row per decided command, which is what makes a re-send harmless. */

import type { Queryable } from '../database.js'
import type { CommandRef, JsonObject } from '../types.js'

const INSERT_COMMAND = `
  -- The first statement of each append: a second attempt waits here until the first has committed or rolled back.
  insert into commands (tenant, command_id, verb, hash, outcome, rejected, attempt, expires_at)
  select $1, $2, $3, $4, $5, $6, $7, $8
  where $8::timestamptz > clock_timestamp()
  on conflict (tenant, command_id) do nothing
`

export interface CommandRow {
  tenant: string
  command: CommandRef
  outcome: JsonObject
  rejected: boolean
  attempt: string
}

/** False when the command has been decided before, or has expired: `findStoredCommand` tells which. */
export async function insertCommand(tx: Queryable, row: CommandRow): Promise<boolean> {
  const { tenant, command, outcome, rejected, attempt } = row
  const values = [
    tenant,
    command.id,
    command.verb,
    command.hash,
    JSON.stringify(outcome),
    rejected,
    attempt,
    command.expiresAt.toISOString(),
  ]
  const { rowCount } = await tx.query({ name: 'insert-command', text: INSERT_COMMAND, values })
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
    where expires_at < clock_timestamp() - interval '7 days'
    order by expires_at
    limit $1
  )
`

/** Removes commands that expired more than 7 days ago, at most `limit` of them. Returns how many went. */
export async function purgeCommands(db: Queryable, limit = 1000): Promise<number> {
  const { rowCount } = await db.query(DELETE_EXPIRED, [limit])
  return rowCount ?? 0
}
