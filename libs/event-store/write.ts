/**
 * The writing transaction of one command, or of several at once: one statement, one round trip. The database judges and
 * writes in a fixed order of locks (`write_commands` in migrations/330-append.ts):
 *
 *   command rows -> live -> claims -> events -> timers -> reservations -> exec slots -> commit
 *
 * Within a step the rows are taken in the order of their keys, which is the order in which they are sent.
 */

import { type Excess, exceededQuota, type TenantUse } from '#libs/domain'
import { failpoint } from '#libs/failpoint'
import { connect, type Database, isConnectionLoss, nameTrouble, sqlState } from './database.js'
import { groupJson } from './group-json.js'
import { settleLostCommit } from './lost-commit.js'
import type { CommandRow } from './statements/commands.js'
import { type QuotaColumns, quotaOf } from './tables/tenants.js'
import type { AppendRequest, AppendResult } from './types.js'

export type Refusal = Exclude<AppendResult, { outcome: 'appended' }>

export interface ChainedEvent {
  stream: string
  version: number
  /** The canonical envelope: what is hashed is what is sent. */
  text: string
  hash: Buffer
}

/** What the transaction needs of a command, ready and checked. */
export interface Prepared {
  request: AppendRequest
  row: CommandRow
  events: ChainedEvent[]
  versions: Record<string, number>
}

/** Of each command its result, or why there is none. */
export type Written = PromiseSettledResult<AppendResult>[]

const APPEND = `
  -- A transaction of its own: the answer comes after the commit.
  select append_commands($1::jsonb) as refusal
`

/** As the database tells it. */
type Told =
  | Exclude<Refusal, { outcome: 'duplicate' | 'no-capacity' }>
  | { outcome: 'duplicate' }
  | { outcome: 'no-capacity'; of: 'worker' }
  | { outcome: 'no-capacity'; of: 'tenant'; tenant: QuotaColumns }

/**
 * All or none: null when one of several was refused, or failed; then nothing was written, and each is to be written
 * apart. All of one tenant.
 */
export async function write(db: Database, group: Prepared[]): Promise<Written | null> {
  const text = groupJson(group)
  // The client is given back before its loss is looked into: that takes a client too.
  const client = await connect(db)
  let lost: Error | undefined
  try {
    failpoint('append-uncommitted')
    const values = [text]
    const { rows } = await client.query<{ refusal: Told | null }>({ name: 'append', text: APPEND, values })
    const told = rows[0]!.refusal
    if (told === null) return group.map(({ versions }) => fulfilled({ outcome: 'appended', versions }))
    return group.length > 1 ? null : [fulfilled(explain(group[0]!.request, told))]
  } catch (error) {
    if (!isConnectionLoss(error)) {
      return group.length > 1 ? null : [fulfilled(refusalOf(error, group[0]!.request))]
    }
    lost = error as Error
  } finally {
    client.release(lost)
  }
  return Promise.allSettled(group.map(({ row, versions }) => settleLostCommit(db, row, versions, lost)))
}

const fulfilled = (value: AppendResult) => ({ status: 'fulfilled' as const, value })

function explain({ reservation, execSlot }: AppendRequest, told: Told): Refusal {
  if (told.outcome === 'duplicate') return { outcome: 'duplicate', stored: {} }
  if (told.outcome !== 'no-capacity' || told.of === 'worker') return told
  const asked: Partial<TenantUse> = {
    ...(reservation?.action === 'take' && { sandboxes: 1, ...reservation.resources }),
    ...(execSlot?.action === 'take' && { execs: 1 }),
  }
  return { outcome: 'no-capacity', of: 'tenant', excess: excessOf(told.tenant, asked) }
}

/** Which quota refused. */
function excessOf(row: QuotaColumns, asked: Partial<TenantUse>): Excess {
  const { quota, used } = quotaOf(row)
  // Room that another append has given back since: told as it was, all of it in use.
  const full = { sandboxes: 0, execs: 0, cpuMillis: 0, memoryBytes: 0, diskBytes: 0 }
  for (const name of Object.keys(full) as (keyof TenantUse)[]) full[name] = quota[name] ?? 0
  return exceededQuota(quota, used, asked) ?? exceededQuota(quota, full, asked)!
}

/** A deadlock's victim has lost a race like any other, and a lock may be free later; the rest is our bug. */
function refusalOf(error: unknown, request: AppendRequest): Refusal {
  const state = sqlState(error)
  const stream = request.writes[0]?.stream
  if ((state === '40P01' || state === '40001') && stream !== undefined) return { outcome: 'conflict', stream }
  throw nameTrouble(error)
}
