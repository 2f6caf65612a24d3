/** `volume.commit`: what a running sandbox wrote becomes a version. Accepted at once, then driven by its timer. */

import { type Command, handleCommand, record } from '#libs/command-handling'
import type { Accepted, CommandBody } from '#libs/contract'
import { decideVolume, Rejected, type SandboxId } from '#libs/domain'
import { derivedCommandId } from '#libs/event-store'
import { commitTimer } from './commits.js'
import type { VolumeSyncer } from './context.js'
import { findMount, findVolume, loadVolume } from './volumes.js'

export async function commitVolume(
  syncer: VolumeSyncer,
  command: Command<CommandBody<'volume.commit'>>,
): Promise<Accepted> {
  const { tenant, body } = command
  const sandboxId = body.sandboxId as SandboxId
  const commitId = derivedCommandId('volume-commit', tenant, command.ref.id)
  const { accepted } = await handleCommand(syncer, command, async () => {
    const volumeId = await findVolume(syncer, tenant, body.volume)
    const { state, version } = await loadVolume(syncer, tenant, volumeId)
    const { mount } = await findMount(syncer, tenant, sandboxId, volumeId)
    if (mount.readOnly) {
      throw new Rejected(
        'INVALID_ARGUMENT',
        `the mount at ${mount.path} is read-only: there is nothing to commit`,
      )
    }
    const events = decideVolume(state, { type: 'RequestCommit', commitId, sandboxId })
    return {
      outcome: { volumeId, commitId, sandboxId },
      writes: [{ stream: volumeId, expectedVersion: version, events: record(events) }],
      timers: { set: [commitTimer(volumeId, commitId, sandboxId)] },
    }
  })
  syncer.timers.nudge()
  return accepted
}
