/** What became of an append whose connection broke: looked up by its command id, never retried blindly. */

import { setTimeout as delay } from 'node:timers/promises'
import { SandtrailError } from '#libs/domain'
import { connect, type Database } from './database.js'
import { type CommandRow, findStoredCommand, isFree } from './statements/commands.js'
import type { AppendResult } from './types.js'

/** A restart of Postgres takes a few seconds; callers give up at about ten. */
const PATIENCE_MS = 10_000
const PAUSE_MS = 200

/**
 * Resolves as `appended` when this very attempt has committed. Throws UNAVAILABLE otherwise: either nothing was
 * written, or (when the database stays away) that is unknown. A re-send of the same command is right in both cases.
 */
export async function settleLostCommit(
  db: Database,
  row: CommandRow,
  versions: Record<string, number>,
  cause: unknown,
): Promise<AppendResult> {
  const deadline = performance.now() + PATIENCE_MS
  while (performance.now() < deadline) {
    const fate = await probe(db, row).catch(() => 'unknown' as const)
    if (fate === 'committed') return { outcome: 'appended', versions }
    if (fate === 'not-committed') {
      throw new SandtrailError('UNAVAILABLE', 'the database broke off; nothing was written', { cause })
    }
    await delay(PAUSE_MS)
  }
  throw new SandtrailError(
    'UNAVAILABLE',
    'the database broke off; whether the command was accepted is unknown',
    {
      hint: 'send the same command again, with the same id',
      cause,
    },
  )
}

/**
 * A plain look could miss a transaction that is still committing. So the row is inserted again, which waits for any
 * transaction that holds the same key, and then rolled back.
 */
async function probe(db: Database, row: CommandRow): Promise<'committed' | 'not-committed'> {
  const tx = await connect(db)
  let broken: Error | undefined
  try {
    await tx.query('begin')
    await tx.query(`set local lock_timeout = '2s'`)
    const free = await isFree(tx, row)
    await tx.query('rollback')
    if (free) return 'not-committed'
    const stored = await findStoredCommand(tx, row.tenant, row.command.id)
    return stored?.attempt === row.attempt ? 'committed' : 'not-committed'
  } catch (error) {
    broken = error as Error // Not worth mending: the client is thrown away.
    throw error
  } finally {
    tx.release(broken)
  }
}
