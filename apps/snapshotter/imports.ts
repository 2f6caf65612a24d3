/**
 * Imports under way. Each has a durable timer from its acceptance until its end, so that a crash of the snapshotter,
 * or a worker that is away, only delays it; after the deadline it is failed and what was half made is removed.
 */

import { handleCommand, record } from '#libs/command-handling'
import {
  decideImage,
  IMAGE_IMPORT_DEADLINE_MS,
  type ImageId,
  Rejected,
  SandtrailError,
  toErrorBody,
} from '#libs/domain'
import { derivedCommandId, type FiredTimer, findClaim, type TimerToSet } from '#libs/event-store'
import type { Snapshotter } from './context.js'
import { imageName, type KnownImage, loadImage } from './images.js'
import { removalTimer } from './remove-image.js'
import { replicate, workersWithout } from './replicas.js'
import { systemCommand } from './system-command.js'

export const IMPORT_TIMER = 'image-import'

/** Fires at once. */
export function importTimer(imageId: ImageId): TimerToSet {
  const payload = { imageId, deadlineAt: Date.now() + IMAGE_IMPORT_DEADLINE_MS }
  return { key: `${imageId}:import`, afterMs: 0, kind: IMPORT_TIMER, payload }
}

/** Throws for what may pass: the timer comes back. */
export async function driveImport(snapshotter: Snapshotter, { tenant, payload }: FiredTimer): Promise<void> {
  const { imageId, deadlineAt } = payload as { imageId: ImageId; deadlineAt: number }
  const { state } = await loadImage(snapshotter, tenant, imageId)
  if (state.status !== 'importing') return
  const missing = await workersWithout(snapshotter, state)
  const results = await Promise.allSettled(
    missing.map((workerId) => replicate(snapshotter, tenant, imageId, state, workerId)),
  )
  const failures = results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []))
  const final = failures.find(
    (error) => error instanceof Rejected || (error instanceof SandtrailError && !error.retryable),
  )
  if (final !== undefined) return failImport(snapshotter, tenant, imageId, final)
  if (failures.length === 0 && missing.length + state.replicas.length > 0) {
    return completeImport(snapshotter, tenant, imageId, state)
  }
  const trouble = failures[0] ?? new SandtrailError('NO_CAPACITY', 'no worker is there to keep the image')
  if (Date.now() > deadlineAt) return failImport(snapshotter, tenant, imageId, trouble)
  throw trouble
}

/** The name now means this image. Whatever it meant before stays, under its id. */
async function completeImport(
  snapshotter: Snapshotter,
  tenant: string,
  imageId: ImageId,
  { name }: KnownImage,
): Promise<void> {
  if (name === null) throw new Error(`${imageId} is being imported and has no name`)
  const before = await findClaim(snapshotter.db, tenant, 'image-name', name)
  // The former holder is part of the id: should another import of this name be faster, this is decided anew.
  const id = derivedCommandId('image-ready', imageId, before ?? 'none')
  await handleCommand(snapshotter, systemCommand(tenant, 'image.complete', id, { imageId }), async () => {
    const { state, version } = await loadImage(snapshotter, tenant, imageId)
    const events = decideImage(state, { type: 'CompleteImport' })
    const writes = [{ stream: imageId, expectedVersion: version, events: record(events) }]
    if (events.length === 0) return { outcome: { imageId }, writes }
    const release = before === null ? [] : [imageName(name, before)]
    return { outcome: { imageId }, writes, claims: { release, take: [imageName(name, imageId)] } }
  })
}

async function failImport(
  snapshotter: Snapshotter,
  tenant: string,
  imageId: ImageId,
  reason: unknown,
): Promise<void> {
  const { code, message } = toErrorBody(reason)
  const id = derivedCommandId('image-failed', imageId)
  await handleCommand(snapshotter, systemCommand(tenant, 'image.fail', id, { imageId }), async () => {
    const { state, version } = await loadImage(snapshotter, tenant, imageId)
    const events = decideImage(state, { type: 'FailImport', code, message })
    return {
      outcome: { imageId },
      writes: [{ stream: imageId, expectedVersion: version, events: record(events) }],
      timers: { set: [removalTimer(imageId, [])] },
    }
  })
}
