/** `image.remove`: the name is free at once, the subvolumes go soon. Sandboxes that run from it keep their own copy. */

import { type Command, handleCommand, record } from '#libs/command-handling'
import type { Accepted, CommandBody } from '#libs/contract'
import { decideImage, type ImageId, SandtrailError } from '#libs/domain'
import { type FiredTimer, listWorkers } from '#libs/event-store'
import { askWorker } from '#libs/pool-tasks'
import type { Snapshotter } from './context.js'
import { cleanUpTimer, deadlineTimer, findImageId, loadImage, nameClaim } from './images.js'

/** Twice this is within the lease of a timer's handler. */
const PATIENCE_MS = 5_000
/** With a minute between tries this is a day: a worker that has not come back by then brings its pool to no use. */
const ATTEMPTS_MAX = 1_440

export async function removeImage(
  snapshotter: Snapshotter,
  command: Command<CommandBody<'image.remove'>>,
): Promise<Accepted> {
  const { tenant, body } = command
  const { accepted } = await handleCommand(snapshotter, command, async () => {
    const imageId = await findImageId(snapshotter.db, tenant, body.image)
    const { state, version } = await loadImage(snapshotter.db, tenant, imageId)
    const events = decideImage(state, { type: 'RemoveImage' })
    const decision = {
      outcome: { imageId },
      writes: [{ stream: imageId, expectedVersion: version, events: record(events) }],
    }
    if (events.length === 0) return decision
    const workers = state.status === 'importing' ? null : state.replicas
    return {
      ...decision,
      claims: { release: state.name === null ? [] : [nameClaim(state.name, imageId)] },
      timers: { set: [cleanUpTimer(imageId, workers)], cancel: [deadlineTimer(imageId).key] },
    }
  })
  return accepted
}

/** Removes the subvolumes; throws while a worker has not answered, so that the timer comes again. */
export async function cleanUpImage(
  snapshotter: Snapshotter,
  { tenant, payload, attempts }: FiredTimer,
): Promise<void> {
  const { imageId, workers } = payload as { imageId: ImageId; workers: string[] | null }
  const holders = (await listWorkers(snapshotter.db)).filter(
    ({ workerId }) => workers === null || workers.includes(workerId),
  )
  const present = holders.filter(({ state }) => state !== 'lost')
  const signal = AbortSignal.timeout(PATIENCE_MS * 2)
  const tries = await Promise.allSettled(
    present.map(({ workerId }) =>
      askWorker<'remove-image'>(
        snapshotter.messaging,
        workerId,
        { kind: 'remove-image', tenant, imageId },
        { signal, patienceMs: PATIENCE_MS },
      ),
    ),
  )
  const failure = tries.find((one) => one.status === 'rejected')
  if ((failure || present.length < holders.length) && attempts < ATTEMPTS_MAX) {
    throw new SandtrailError('UNAVAILABLE', `${imageId} is not removed from every pool yet`, {
      cause: failure?.reason,
    })
  }
}
