/** Follows the ledger, and ends the sandboxes of each app that was stopped. */

import { KNOWN_EVENTS } from '#libs/domain'
import {
  derivedCommandId,
  listLiveOfApp,
  type Queryable,
  type RecordedEvent,
  Subscription,
} from '#libs/event-store'
import type { Scheduler } from './context.js'
import { systemCommand } from './system-command.js'
import { stopSandbox } from './terminate-sandbox.js'

export function stoppedApps(scheduler: Scheduler): Subscription {
  return new Subscription({
    db: scheduler.db,
    name: 'scheduler-stopped-apps',
    types: ['AppStopped'],
    knows: KNOWN_EVENTS,
    log: scheduler.log,
    handle: (tx, event) => endSandboxes(scheduler, tx, event),
  })
}

/** A create in the app required its claim, which its stop gave up: none comes after this look. */
async function endSandboxes(scheduler: Scheduler, tx: Queryable, stopped: RecordedEvent): Promise<void> {
  const { tenant, stream: appId, eventId } = stopped
  for (const { sandboxId, state } of await listLiveOfApp(tx, tenant, appId)) {
    if (state === 'closing') continue
    // From (event, sandbox): done again after a crash, it is the same command.
    const id = derivedCommandId('stopped-app', eventId, sandboxId)
    const command = systemCommand(tenant, 'sandbox.terminate', id, { sandboxId }, eventId)
    await stopSandbox(scheduler, command, 'app-stopped')
  }
}
