/**
 * Follows the ledger, and ends the execs of a sandbox that ended without them: its worker was lost, or its end came
 * before an exec reached it. A worker that ends a sandbox in order has reported its execs before.
 */

import { handleCommand, record } from '#libs/command-handling'
import { decideExec, KNOWN_EVENTS, SANDBOX_TERMINAL_EVENTS } from '#libs/domain'
import { derivedCommandId, type Queryable, type RecordedEvent, Subscription } from '#libs/event-store'
import type { Scheduler } from './context.js'
import { followExec, type OpenExec, openExecsOf } from './open-execs.js'
import { loadExec } from './resolve.js'
import { systemCommand } from './system-command.js'
import { execStartTimer } from './timers.js'

const FOLLOWED = [
  'ExecRequested',
  'ExecStarted',
  'ExecExited',
  'ExecFailed',
  'ExecLost',
  ...SANDBOX_TERMINAL_EVENTS,
]

export function orphanedExecs(scheduler: Scheduler): Subscription {
  return new Subscription({
    db: scheduler.db,
    name: 'scheduler-orphaned-execs',
    types: FOLLOWED,
    knows: KNOWN_EVENTS,
    log: scheduler.log,
    async handle(tx, event) {
      if (event.type.startsWith('Exec')) await followExec(tx, event)
      else await endOrphans(scheduler, tx, event)
    },
  })
}

async function endOrphans(scheduler: Scheduler, tx: Queryable, ended: RecordedEvent): Promise<void> {
  for (const exec of await openExecsOf(tx, ended.stream)) await endOrphan(scheduler, exec, ended)
}

/** Its command's id comes from (event, exec): done again after a crash, it is the same command. */
async function endOrphan(
  scheduler: Scheduler,
  { execId, tenant }: OpenExec,
  ended: RecordedEvent,
): Promise<void> {
  const id = derivedCommandId('orphaned-exec', ended.eventId, execId)
  const command = systemCommand(tenant, 'exec.end', id, { execId }, ended.eventId)
  await handleCommand(scheduler, command, async () => {
    const { state, version } = await loadExec(scheduler.db, tenant, execId)
    // It may have run whenever its worker may have received it.
    const ending = { kind: 'lost' as const, mayHaveRun: true, reason: `its sandbox ended: ${ended.type}` }
    const events = decideExec(state, { type: 'ReportExecEnded', epoch: state.spec.epoch, ending })
    return {
      outcome: { execId },
      writes: [{ stream: execId, expectedVersion: version, events: record(events) }],
      ...(events.length > 0 && {
        execSlot: { action: 'release' as const, execId },
        timers: { cancel: [execStartTimer(execId).key] },
      }),
    }
  })
}
