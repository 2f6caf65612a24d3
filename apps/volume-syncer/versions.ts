/** What the home worker's log of a volume says becomes events, in its order, each once. */

import { handleCommand, record } from '#libs/command-handling'
import type { TaskResult } from '#libs/contract'
import { decideVolume, type VolumeId } from '#libs/domain'
import { derivedCommandId } from '#libs/event-store'
import type { VolumeSyncer } from './context.js'
import { systemCommand } from './system-command.js'
import { loadVolume } from './volumes.js'

type Versions = Extract<TaskResult, { kind: 'commit-volume' }>['versions']

/** Entries that the stream has already are skipped, whoever recorded them. */
export async function recordVersions(
  syncer: VolumeSyncer,
  tenant: string,
  volumeId: VolumeId,
  versions: Versions,
): Promise<void> {
  const last = versions.at(-1)
  if (last === undefined) return
  const id = derivedCommandId('volume-versions', volumeId, last.version)
  await handleCommand(syncer, systemCommand(tenant, 'volume.record', id, { volumeId }), async () => {
    const { state, version } = await loadVolume(syncer, tenant, volumeId)
    const events = decideVolume(state, { type: 'RecordVersions', versions })
    return {
      outcome: { volumeId },
      writes: [{ stream: volumeId, expectedVersion: version, events: record(events) }],
    }
  })
}
