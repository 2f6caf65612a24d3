/** Bringing an imported image into a worker's pool, and the record of it. */

import { handleCommand, record, runTask } from '#libs/command-handling'
import { decideImage, IMAGE_IMPORT_DEADLINE_MS, type ImageId, type WorkerId } from '#libs/domain'
import { derivedCommandId, listWorkers } from '#libs/event-store'
import type { Snapshotter } from './context.js'
import { type KnownImage, loadImage } from './images.js'
import { systemCommand } from './system-command.js'

/** Workers that are to have every imported image and do not have this one. */
export async function workersWithout({ db }: Snapshotter, { replicas }: KnownImage): Promise<WorkerId[]> {
  const active = (await listWorkers(db)).filter(({ state }) => state === 'active')
  return active.map(({ workerId }) => workerId as WorkerId).filter((workerId) => !replicas.includes(workerId))
}

/** @throws what the worker refused with, or what may pass: then ask again, the work is done once */
export async function replicate(
  snapshotter: Snapshotter,
  tenant: string,
  imageId: ImageId,
  { source }: KnownImage,
  workerId: WorkerId,
): Promise<void> {
  if (source.kind !== 'import') throw new Error(`${imageId} was not imported, there is no tarball to bring`)
  const { sha256, bytes } = source
  const url = snapshotter.blobs.urlOf(sha256)
  const task = { kind: 'import-image' as const, tenant, imageId, url, sha256, bytes }
  await runTask(snapshotter.messaging, workerId, task, IMAGE_IMPORT_DEADLINE_MS)
  const id = derivedCommandId('image-replicated', imageId, workerId)
  await handleCommand(
    snapshotter,
    systemCommand(tenant, 'image.replicated', id, { imageId, workerId }),
    async () => {
      const { state, version } = await loadImage(snapshotter, tenant, imageId)
      const events = decideImage(state, { type: 'ReportReplicated', workerId })
      return {
        outcome: { imageId },
        writes: [{ stream: imageId, expectedVersion: version, events: record(events) }],
      }
    },
  )
}
