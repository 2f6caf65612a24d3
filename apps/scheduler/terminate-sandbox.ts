/** `sandbox.terminate`, and the stop that a missed start deadline asks for. Legal in every state but the end. */

import { type Command, handleCommand, record } from '#libs/command-handling'
import type { Accepted, CommandBody } from '#libs/contract'
import { decideSandbox, type SandboxId, type StopReason } from '#libs/domain'
import type { Scheduler } from './context.js'
import { dispatch, stopOrder } from './orders.js'
import { loadSandbox, type Placed } from './resolve.js'
import { stopTimer } from './timers.js'

export async function stopSandbox(
  scheduler: Scheduler,
  command: Command<CommandBody<'sandbox.terminate'>>,
  reason: StopReason,
): Promise<Accepted> {
  const { tenant } = command
  const sandboxId = command.body.sandboxId as SandboxId
  let stopping: Placed | undefined
  const { accepted, isNew } = await handleCommand(scheduler, command, async () => {
    const { state, version } = await loadSandbox(scheduler.db, tenant, sandboxId)
    const events = decideSandbox(state, { type: 'TerminateSandbox', reason })
    const outcome = { sandboxId }
    const writes = [{ stream: sandboxId, expectedVersion: version, events: record(events) }]
    if (events.length === 0) return { outcome, writes }
    stopping = state
    return {
      outcome,
      writes,
      live: { action: 'closing', sandboxId },
      timers: { set: [stopTimer(sandboxId)], cancel: [`${sandboxId}:start`] },
    }
  })
  if (isNew && stopping) {
    const { workerId, epoch } = stopping
    dispatch(scheduler, workerId, Promise.resolve(stopOrder(tenant, sandboxId, epoch, reason)))
  }
  return accepted
}
