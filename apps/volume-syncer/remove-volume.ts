/** `volume.remove`: refused while a live sandbox mounts it. Its history stays; its name is free again. */

import { type Command, handleCommand, record } from '#libs/command-handling'
import type { Accepted, CommandBody } from '#libs/contract'
import { decideVolume, isId, Rejected, type VolumeId } from '#libs/domain'
import { type FiredTimer, liveSandboxesWith, type TimerToSet } from '#libs/event-store'
import { askWorker } from '#libs/pool-tasks'
import type { VolumeSyncer } from './context.js'
import { findVolume, loadVolume, volumeName } from './volumes.js'

export const REMOVE_TIMER = 'volume-remove'
const TASK_MS = 25_000

export async function removeVolume(
  syncer: VolumeSyncer,
  command: Command<CommandBody<'volume.remove'>>,
): Promise<Accepted> {
  const { tenant, body } = command
  const { accepted } = await handleCommand(syncer, command, async () => {
    const volumeId = await findVolume(syncer, tenant, body.volume)
    const { state, version } = await loadVolume(syncer, tenant, volumeId)
    const users = await liveSandboxesWith(syncer.db, volumeId)
    if (users.length > 0) {
      throw new Rejected('VOLUME_IN_USE', `volume ${state.name} is mounted by ${users.join(', ')}`, {
        hint: 'end these sandboxes first',
      })
    }
    const events = decideVolume(state, { type: 'RemoveVolume' })
    const writes = [{ stream: volumeId, expectedVersion: version, events: record(events) }]
    if (events.length === 0) return { outcome: { volumeId }, writes }
    return {
      outcome: { volumeId },
      writes,
      claims: { release: [volumeName(state.name, volumeId)] },
      // Again in the append: a sandbox may have been created since the look above.
      unmounted: { volumeId },
      timers: { set: [removeTimer(volumeId)] },
    }
  })
  syncer.timers.nudge()
  return accepted
}

function removeTimer(volumeId: VolumeId): TimerToSet {
  return { key: `${volumeId}:remove`, afterMs: 0, kind: REMOVE_TIMER, payload: { volumeId } }
}

/** Frees the pool. Throws while the home worker is away: the timer comes back. */
export async function driveRemoval(syncer: VolumeSyncer, { tenant, payload }: FiredTimer): Promise<void> {
  const { volumeId } = payload
  if (!isId('vo', volumeId)) throw new Error(`a timer names no volume: ${volumeId}`)
  const { state } = await loadVolume(syncer, tenant, volumeId)
  const task = { kind: 'remove-volume' as const, tenant, volumeId }
  const options = { signal: AbortSignal.timeout(TASK_MS), patienceMs: 0 }
  await askWorker<'remove-volume'>(syncer.messaging, state.workerId, task, options)
}
