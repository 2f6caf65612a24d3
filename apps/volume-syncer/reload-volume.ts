/**
 * `volume.reload`: a running sandbox gets the newest version. What it had not committed is gone from its view.
 * Carried out before it is accepted: the event tells from which version to which, and only the worker knows.
 */

import { type Command, handleCommand, record } from '#libs/command-handling'
import { type Accepted, COMMAND_REPLY_MS_MAX, type CommandBody, type TaskResult } from '#libs/contract'
import { decideVolume, type SandboxId } from '#libs/domain'
import { derivedCommandId } from '#libs/event-store'
import { askWorker } from '#libs/pool-tasks'
import type { VolumeSyncer } from './context.js'
import { findMount, findVolume, loadVolume } from './volumes.js'

/** One round trip to the agent and one snapshot; the rest of what the caller waits is for the decision. */
const RELOAD_MS = COMMAND_REPLY_MS_MAX - 5_000

export async function reloadVolume(
  syncer: VolumeSyncer,
  command: Command<CommandBody<'volume.reload'>>,
): Promise<Accepted> {
  const { tenant, body } = command
  const sandboxId = body.sandboxId as SandboxId
  const reloadId = derivedCommandId('volume-reload', tenant, command.ref.id)
  // Once, however often a lost race is decided again.
  let reloaded: Extract<TaskResult, { kind: 'reload-volume' }> | undefined
  const { accepted } = await handleCommand(syncer, command, async () => {
    const volumeId = await findVolume(syncer, tenant, body.volume)
    const { sandbox } = await findMount(syncer, tenant, sandboxId, volumeId)
    const { workerId, epoch } = sandbox
    const task = { kind: 'reload-volume' as const, tenant, volumeId, sandboxId, epoch, reloadId }
    const options = { signal: AbortSignal.timeout(RELOAD_MS), patienceMs: 0 }
    reloaded ??= await askWorker<'reload-volume'>(syncer.messaging, workerId, task, options)
    const { fromVersion, toVersion } = reloaded
    const { state, version } = await loadVolume(syncer, tenant, volumeId)
    const events = decideVolume(state, { type: 'RecordReload', sandboxId, fromVersion, toVersion })
    return {
      outcome: { volumeId, sandboxId },
      writes: [{ stream: volumeId, expectedVersion: version, events: record(events) }],
    }
  })
  return accepted
}
