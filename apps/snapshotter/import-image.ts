/**
 * `image.import`: accepted at once, then every live worker's pool is filled, and the image is ready when all have it.
 * A worker that joins, or comes back, later is filled then.
 */

import { type Command, handleCommand, newId, record } from '#libs/command-handling'
import type { Accepted, CommandBody } from '#libs/contract'
import { decideImage, IMAGE_IMPORT_DEADLINE_MS, type ImageId, toErrorBody, type WorkerId } from '#libs/domain'
import { hasUploaded, listWorkers } from '#libs/event-store'
import { askWorker } from '#libs/pool-tasks'
import { noBlob } from './blobs.js'
import type { Job, Snapshotter } from './context.js'
import { deadlineTimer, type KnownImage, loadImage, recordImageStep } from './images.js'

/** After this much silence of one worker, look again which are alive: it is lost after 30 s. */
const PATIENCE_MS = 5_000

export async function importImage(
  snapshotter: Snapshotter,
  command: Command<CommandBody<'image.import'>>,
): Promise<Accepted> {
  const { tenant, body } = command
  const imageId = newId('im')
  const { accepted, isNew } = await handleCommand(snapshotter, command, async () => {
    // To know a digest is no permission: the blob may be another tenant's.
    if (!(await hasUploaded(snapshotter.db, tenant, body.sha256))) throw noBlob()
    const bytes = await snapshotter.blobs.bytes(body.sha256)
    const events = decideImage({ status: 'absent' }, { type: 'ImportImage', ...body, bytes })
    return {
      outcome: { imageId },
      writes: [{ stream: imageId, expectedVersion: 0, events: record(events) }],
      timers: { set: [deadlineTimer(imageId, IMAGE_IMPORT_DEADLINE_MS)] },
    }
  })
  if (isNew) snapshotter.jobs.begin({ kind: 'import', key: imageId, tenant, imageId })
  return accepted
}

/** One try to bring an image into every live pool. Throws when one of them has to be asked again later. */
export async function fillPools(
  snapshotter: Snapshotter,
  { tenant, imageId }: Extract<Job, { kind: 'import' | 'replicate' }>,
  signal: AbortSignal,
): Promise<void> {
  const { state } = await loadImage(snapshotter.db, tenant, imageId)
  if (state.status !== 'importing' && state.status !== 'ready') return
  const lacking = (await liveWorkers(snapshotter)).filter(
    (workerId) => !state.replicas.includes(workerId) && !snapshotter.rests.isResting(imageId, workerId),
  )
  const tries = await Promise.allSettled(
    lacking.map((workerId) => fillPool(snapshotter, { tenant, imageId, workerId, state }, signal)),
  )
  const failure = tries.find((one) => one.status === 'rejected')
  if (failure) return failed(snapshotter, { tenant, imageId, state }, failure.reason)
  const after = await loadImage(snapshotter.db, tenant, imageId)
  if (after.state.status === 'importing' && after.state.replicas.length > 0) {
    await recordImageStep(snapshotter, tenant, imageId, { type: 'CompleteImport' })
  }
}

async function fillPool(
  snapshotter: Snapshotter,
  image: { tenant: string; imageId: ImageId; workerId: WorkerId; state: KnownImage },
  signal: AbortSignal,
): Promise<void> {
  const { tenant, imageId, workerId, state } = image
  // A snapshot lies where its sandbox ran; nothing ships it yet.
  if (state.source.kind !== 'import') return
  const { sha256, bytes } = state.source
  const task = {
    kind: 'import-image' as const,
    tenant,
    imageId,
    url: snapshotter.blobs.url(sha256),
    sha256,
    bytes,
  }
  const options = { signal, patienceMs: PATIENCE_MS }
  try {
    await askWorker<'import-image'>(snapshotter.messaging, workerId, task, options)
  } catch (error) {
    if (state.status === 'ready' && !toErrorBody(error).retryable) snapshotter.rests.failed(imageId, workerId)
    throw error
  }
  snapshotter.rests.filled(imageId, workerId)
  await recordImageStep(snapshotter, tenant, imageId, { type: 'ReportReplicated', workerId })
}

/** What will not pass fails an import; a ready image stays ready, and this pool without it until it has rested. */
async function failed(
  snapshotter: Snapshotter,
  { tenant, imageId, state }: { tenant: string; imageId: ImageId; state: KnownImage },
  reason: unknown,
): Promise<void> {
  const { code, message, retryable } = toErrorBody(reason)
  if (retryable || state.status !== 'importing') throw reason
  await recordImageStep(snapshotter, tenant, imageId, { type: 'FailImport', code, message })
}

async function liveWorkers({ db }: Snapshotter): Promise<WorkerId[]> {
  const workers = await listWorkers(db)
  return workers.filter(({ state }) => state !== 'lost').map(({ workerId }) => workerId as WorkerId)
}
