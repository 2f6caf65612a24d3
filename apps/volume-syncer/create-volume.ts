/** `volume.create`: a name, and the worker in whose pool it will live. */

import { type Command, handleCommand, newId, record } from '#libs/command-handling'
import type { Accepted, CommandBody } from '#libs/contract'
import { decideVolume, Rejected, SandtrailError, volumeAggregate, type WorkerId } from '#libs/domain'
import { listWorkers } from '#libs/event-store'
import type { VolumeSyncer } from './context.js'
import { volumeName } from './volumes.js'

export async function createVolume(
  syncer: VolumeSyncer,
  command: Command<CommandBody<'volume.create'>>,
): Promise<Accepted> {
  const { name } = command.body
  const volumeId = newId('vo')
  const { accepted } = await handleCommand(syncer, command, async () => {
    const workerId = await chooseHome(syncer)
    const events = decideVolume(volumeAggregate.initial, { type: 'CreateVolume', name, workerId })
    return {
      outcome: { volumeId },
      writes: [{ stream: volumeId, expectedVersion: 0, events: record(events) }],
      claims: { take: [volumeName(name, volumeId)] },
      onClaimTaken: () => new Rejected('NAME_TAKEN', `a volume is called ${name} already`),
    }
  })
  return accepted
}

/**
 * The first live worker by id, the same for all volumes while it lives: a sandbox can mount only what lies together,
 * as long as nothing is shipped between pools.
 */
async function chooseHome({ db }: VolumeSyncer): Promise<WorkerId> {
  const live = (await listWorkers(db))
    .filter(({ state }) => state === 'active')
    .map(({ workerId }) => workerId)
  const [first] = live.sort()
  if (first !== undefined) return first as WorkerId
  throw new SandtrailError('NO_CAPACITY', 'no worker is there to keep the volume', {
    hint: 'start a runtime-worker, see `sandtrail doctor`',
  })
}
