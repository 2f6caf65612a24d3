/** An exec that had not started by its time: its worker swears never to start it, then it is recorded as lost. */

import { handleCommand, record } from '#libs/command-handling'
import { decideExec, type ExecId } from '#libs/domain'
import type { Scheduler } from './context.js'
import { sendOrder } from './orders.js'
import { loadExec, loadSandbox } from './resolve.js'
import { systemCommand } from './system-command.js'

/** Throws while the worker does not answer: the timer comes back. Its own end, or the worker's loss, ends the exec too. */
export async function cancelOverdueExec(
  scheduler: Scheduler,
  tenant: string,
  execId: ExecId,
  commandId: string,
): Promise<void> {
  const { state, sandboxId } = await loadExec(scheduler.db, tenant, execId)
  if (state.status !== 'requested') return
  const { state: sandbox } = await loadSandbox(scheduler.db, tenant, sandboxId)
  if (sandbox.status === 'ended') return // The execs of an ended sandbox are ended by orphaned-execs.ts.

  const { workerId, epoch } = sandbox
  const reply = await sendOrder(scheduler, workerId, {
    kind: 'cancel-exec',
    tenant,
    sandboxId,
    epoch,
    execId,
  })
  if (reply.known) return
  const command = systemCommand(tenant, 'exec.cancel', commandId, { execId })
  await handleCommand(scheduler, command, async () => {
    const { state, version } = await loadExec(scheduler.db, tenant, execId)
    const ending = { kind: 'lost' as const, mayHaveRun: false, reason: 'it did not reach its worker in time' }
    const events = decideExec(state, { type: 'ReportExecEnded', epoch: state.spec.epoch, ending })
    return {
      outcome: { execId },
      writes: [{ stream: execId, expectedVersion: version, events: record(events) }],
      ...(events.length > 0 && { execSlot: { action: 'release' as const, execId } }),
    }
  })
}
