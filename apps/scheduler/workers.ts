/**
 * `worker.cordon`, `worker.uncordon`, `worker.drain`: operators' commands. They come on the platform's own subjects,
 * which no tenant's account reaches; the gateway lets an operator's token through to them.
 *
 * The cordon is a claim, taken with its event in one transaction, so that placement never reads it later than the log
 * has it, and `verify` compares the two. A placement that was under way at that moment may still land.
 */

import { type Command, handleCommand, record } from '#libs/command-handling'
import type { Accepted, CommandBody } from '#libs/contract'
import {
  decideWorker,
  PLATFORM_TENANT,
  Rejected,
  type SandboxId,
  type WorkerCommand,
  type WorkerEvent,
  type WorkerId,
  workerAggregate,
} from '#libs/domain'
import {
  cordonClaim,
  derivedCommandId,
  type FiredTimer,
  findWorker,
  listLive,
  load,
  setTimers,
} from '#libs/event-store'
import type { Scheduler } from './context.js'
import { systemCommand } from './system-command.js'
import { stopSandbox } from './terminate-sandbox.js'

export const DRAIN_TIMER = 'worker-drain'
/** Sandboxes end by themselves; how soon after the last one it is told. */
const LOOK_MS = 1_000

export function cordonWorker(
  scheduler: Scheduler,
  command: Command<CommandBody<'worker.cordon'>>,
): Promise<Accepted> {
  return decideOnWorker(scheduler, command, { type: 'CordonWorker', reason: command.body.reason })
}

export function uncordonWorker(
  scheduler: Scheduler,
  command: Command<CommandBody<'worker.uncordon'>>,
): Promise<Accepted> {
  return decideOnWorker(scheduler, command, { type: 'UncordonWorker' })
}

export function drainWorker(
  scheduler: Scheduler,
  command: Command<CommandBody<'worker.drain'>>,
): Promise<Accepted> {
  const { reason, timeoutMs } = command.body
  return decideOnWorker(scheduler, command, { type: 'DrainWorker', reason, timeoutMs })
}

/** While a worker drains: what is past the deadline is asked to stop, and the end is recorded. */
export async function driveDrain(scheduler: Scheduler, { payload, commandId }: FiredTimer): Promise<void> {
  const { db } = scheduler
  const workerId = payload.workerId as WorkerId
  const { state } = await load(db, workerAggregate, workerId, { tenant: PLATFORM_TENANT })
  if (state.status !== 'draining') return
  const live = await listLive(db, workerId)
  if (live.length === 0) {
    const done = systemCommand(PLATFORM_TENANT, 'worker.drained', commandId, { workerId })
    await decideOnWorker(scheduler, done, { type: 'RecordDrained' })
    return
  }
  if (state.deadlineMs !== null && Date.now() > state.deadlineMs) {
    for (const { tenant, sandboxId, epoch, state: liveState } of live) {
      if (liveState === 'closing') continue
      const id = derivedCommandId('drain', sandboxId, epoch)
      const stop = systemCommand(tenant, 'sandbox.terminate', id, { sandboxId: sandboxId as SandboxId })
      await stopSandbox(scheduler, stop, 'drain')
    }
  }
  await setTimers(db, PLATFORM_TENANT, [drainTimer(workerId)])
}

async function decideOnWorker(
  scheduler: Scheduler,
  command: Command<{ workerId: string }>,
  decision: WorkerCommand,
): Promise<Accepted> {
  const { db } = scheduler
  const workerId = command.body.workerId as WorkerId
  const { accepted } = await handleCommand(scheduler, command, async () => {
    if ((await findWorker(db, workerId)) === null) {
      throw new Rejected('NOT_FOUND', `no worker ${workerId} has ever registered`, {
        hint: 'see `sandtrail worker ls`',
      })
    }
    const { state, version } = await load(db, workerAggregate, workerId, { tenant: PLATFORM_TENANT })
    const events = decideWorker(state, decision)
    return {
      outcome: { workerId },
      writes: [{ stream: workerId, expectedVersion: version, events: record(events) }],
      ...effectsOf(workerId, events[0]),
    }
  })
  return accepted
}

function effectsOf(workerId: WorkerId, event: WorkerEvent | undefined) {
  const claim = cordonClaim(workerId)
  const { key } = drainTimer(workerId)
  switch (event?.type) {
    case 'WorkerCordoned':
      return { claims: { take: [claim] }, timers: { cancel: [key] } }
    case 'WorkerDrainRequested':
      return { claims: { take: [claim] }, timers: { set: [drainTimer(workerId)] } }
    case 'WorkerUncordoned':
      return { claims: { release: [claim] }, timers: { cancel: [key] } }
    case 'WorkerDrained':
    case undefined:
      return {}
  }
}

function drainTimer(workerId: WorkerId) {
  return { key: `${workerId}:drain`, afterMs: LOOK_MS, kind: DRAIN_TIMER, payload: { workerId } }
}
