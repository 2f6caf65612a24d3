/**
 * What the scheduler's timers do. A deadline of a placed sandbox only sends a stop, and again: what ends it is its
 * worker's fact, or the loss of the worker.
 */

import { decideSandbox, type ExecId, type SandboxId } from '#libs/domain'
import type { TimerHandler } from '#libs/event-store'
import { endSilentApp } from './app-commands.js'
import type { Scheduler } from './context.js'
import type { Leases } from './leases.js'
import { sendOrder, stopOrder } from './orders.js'
import { cancelOverdueExec } from './overdue-exec.js'
import { loadExec, loadSandbox } from './resolve.js'
import { systemCommand } from './system-command.js'
import { settleTenant, TENANT_TIMER } from './tenants.js'
import { stopSandbox } from './terminate-sandbox.js'
import { DRAIN_TIMER, driveDrain } from './workers.js'

export function timerHandlers(
  scheduler: Scheduler,
  leases: Pick<Leases, 'hearingForMs'>,
): Record<string, TimerHandler> {
  const { db } = scheduler
  return {
    'app-heartbeat': (timer) => endSilentApp(scheduler, timer, leases.hearingForMs),
    [DRAIN_TIMER]: (timer) => driveDrain(scheduler, timer),
    [TENANT_TIMER]: (timer) => settleTenant(scheduler, timer),
    'sandbox-start-deadline': async ({ tenant, commandId, payload }) => {
      const sandboxId = payload.sandboxId as SandboxId
      const { state } = await loadSandbox(db, tenant, sandboxId)
      if (decideSandbox(state, { type: 'TerminateSandbox', reason: 'start-deadline' }).length === 0) return
      await stopSandbox(
        scheduler,
        systemCommand(tenant, 'sandbox.terminate', commandId, { sandboxId }),
        'start-deadline',
      )
    },
    'sandbox-stop-deadline': async ({ tenant, payload }) => {
      const sandboxId = payload.sandboxId as SandboxId
      const { state } = await loadSandbox(db, tenant, sandboxId)
      if (state.status !== 'stopping') return 'done'
      await sendOrder(scheduler, state.workerId, stopOrder(tenant, sandboxId, state.epoch, state.reason))
      return 'again' // Its end is still to come.
    },
    'exec-start-deadline': ({ tenant, commandId, payload }) =>
      cancelOverdueExec(scheduler, tenant, payload.execId as ExecId, commandId),
    'exec-signal': async ({ tenant, payload }) => {
      const execId = payload.execId as ExecId
      const { state, sandboxId } = await loadExec(db, tenant, execId)
      if (state.status === 'ended') return
      const sandbox = await loadSandbox(db, tenant, sandboxId)
      if (sandbox.state.status === 'ended') return
      const { signal, signalId } = payload as { signal: number; signalId: string }
      const { workerId, epoch } = sandbox.state
      await sendOrder(scheduler, workerId, {
        kind: 'signal',
        tenant,
        sandboxId,
        epoch,
        execId,
        signal,
        signalId,
      })
    },
  }
}
