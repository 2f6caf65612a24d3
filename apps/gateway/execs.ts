/** Execs: one call that starts a program and waits for its end, and the list of a sandbox's. */

import type { Accepted, CommandBody } from '#libs/contract'
import { EXEC_TERMINAL_EVENTS } from '#libs/domain'
import { type Queryable, readStream } from '#libs/event-store'
import { type Origin, sendCommand } from './commands.js'
import type { Gateway } from './gateway.js'
import { readExec } from './lookup.js'
import { type ExecView, execView } from './views/exec.js'

/**
 * Accepted after the commit; with `waitMs` it also waits, at most so long, and `exec` is the state then.
 * The wait is the gateway's: the scheduler is asked with `waitMs` 0, so that a re-send with another wait is the
 * same command.
 */
export async function runExec(
  { db, messaging, waiter }: Gateway,
  origin: Origin,
  body: CommandBody<'sandbox.exec'>,
  signal: AbortSignal,
): Promise<Accepted & { exec: ExecView | null }> {
  const { waitMs } = body
  const { accepted } = await sendCommand(messaging, origin, 'sandbox.exec', { ...body, waitMs: 0 })
  const { execId } = accepted
  if (waitMs === 0 || execId === undefined) return { ...accepted, exec: null }
  await waiter.until(execId, EXEC_TERMINAL_EVENTS, { timeoutMs: waitMs, signal })
  return { ...accepted, exec: await readExec(db, origin.tenant, execId) }
}

/** Newest first, at most 100. */
const EXECS_OF_SANDBOX = `
  select stream
  from events
  where tenant = $1 and type = 'ExecRequested' and data #>> '{spec,sandboxId}' = $2
  order by seq desc
  limit 100
`

export async function execsOf(db: Queryable, tenant: string, sandboxId: string): Promise<ExecView[]> {
  const { rows } = await db.query<{ stream: string }>(EXECS_OF_SANDBOX, [tenant, sandboxId])
  const views = await Promise.all(rows.map(async ({ stream }) => execView(await readStream(db, stream))))
  return views.filter((view) => view !== null)
}
