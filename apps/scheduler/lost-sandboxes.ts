/**
 * `SandboxLost`: recorded when a worker has been silent for the whole grace, or has lost its own records, and when the
 * log was set back to a backup.
 */

import { handleCommand, record } from '#libs/command-handling'
import { decideSandbox, type SandboxId } from '#libs/domain'
import { derivedCommandId } from '#libs/event-store'
import type { Scheduler } from './context.js'
import { nameClaims } from './names.js'
import { loadSandbox } from './resolve.js'
import { systemCommand } from './system-command.js'

export interface LostSandbox {
  sandboxId: SandboxId
  tenant: string
  epoch: number
  reason: string
}

/** Idempotent: two schedulers that come to the same conclusion record it once. */
export async function declareLost(
  scheduler: Pick<Scheduler, 'db' | 'onCommitted' | 'log'>,
  lost: LostSandbox,
): Promise<void> {
  const { sandboxId, tenant, epoch, reason } = lost
  const id = derivedCommandId('lost', sandboxId, epoch)
  await handleCommand(
    scheduler,
    systemCommand(tenant, 'sandbox.lose', id, { sandboxId, epoch }),
    async () => {
      const { state, version } = await loadSandbox(scheduler.db, tenant, sandboxId)
      const events = decideSandbox(state, { type: 'DeclareLost', epoch, reason })
      const writes = [{ stream: sandboxId, expectedVersion: version, events: record(events) }]
      if (events.length === 0) return { outcome: { sandboxId }, writes }
      return {
        outcome: { sandboxId },
        writes,
        live: { action: 'close', sandboxId, epoch },
        reservation: { action: 'release', sandboxId },
        claims: { release: nameClaims(state.spec, sandboxId) },
        timers: { cancel: [`${sandboxId}:start`, `${sandboxId}:stop`] },
      }
    },
  )
  scheduler.log.warn({ sandboxId, epoch, reason }, 'sandbox lost')
}
