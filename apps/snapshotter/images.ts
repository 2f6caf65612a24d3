/** Images found by name or id, and the steps of an image's life that this service takes by itself. */

import { handleCommand, record } from '#libs/command-handling'
import {
  decideImage,
  type Image,
  type ImageCommand,
  type ImageId,
  imageAggregate,
  imageScopes,
  isId,
  Rejected,
  snapshotAggregate,
} from '#libs/domain'
import { type Claim, findClaim, load, type Queryable, type TimerToSet } from '#libs/event-store'
import { newCommandId, type Snapshotter, systemCommand } from './context.js'

export type KnownImage = Exclude<Image, { status: 'absent' }>

/** @throws Rejected IMAGE_NOT_FOUND, for another tenant's image too */
export async function loadImage(
  db: Queryable,
  tenant: string,
  imageId: ImageId,
): Promise<{ state: KnownImage; version: number }> {
  const { state, version } = await load(db, imageAggregate, imageId, { tenant })
  if (state.status === 'absent') throw new Rejected('IMAGE_NOT_FOUND', `no image has the id ${imageId}`)
  return { state, version }
}

/** One of the tenant's own: what it may change. @throws Rejected IMAGE_NOT_FOUND */
export async function findImageId(db: Queryable, tenant: string, ref: string): Promise<ImageId> {
  return await findIn(db, [tenant], ref)
}

/** One that the tenant may look at: its own, or the platform's. @throws Rejected IMAGE_NOT_FOUND */
export async function findVisibleImageId(db: Queryable, tenant: string, ref: string): Promise<ImageId> {
  return await findIn(db, imageScopes(tenant), ref)
}

async function findIn(db: Queryable, scopes: readonly string[], ref: string): Promise<ImageId> {
  if (isId('im', ref)) return ref
  for (const scope of scopes) {
    if (isId('sn', ref)) {
      const { state } = await load(db, snapshotAggregate, ref, { tenant: scope })
      if (state.status === 'completed') return state.imageId
      continue
    }
    const holder = await findClaim(db, scope, 'image-name', ref)
    if (isId('im', holder)) return holder
  }
  throw new Rejected('IMAGE_NOT_FOUND', `no image is called ${JSON.stringify(ref)}`, {
    hint: '`sandtrail image ls` lists them',
  })
}

export function nameClaim(name: string, imageId: ImageId): Claim {
  return { kind: 'image-name', key: name, holder: imageId }
}

/** The name goes to the newest image that became ready under it. */
async function moveName(db: Queryable, tenant: string, name: string, imageId: ImageId) {
  const holder = await findClaim(db, tenant, 'image-name', name)
  const release = holder === null || holder === imageId ? [] : [nameClaim(name, holder as ImageId)]
  return { release, take: [nameClaim(name, imageId)] }
}

/** Applies a step of the service's own; one that is already so changes nothing. */
export async function recordImageStep(
  snapshotter: Snapshotter,
  tenant: string,
  imageId: ImageId,
  step: Exclude<ImageCommand, { type: 'ImportImage' | 'RecordSnapshotImage' | 'RemoveImage' }>,
): Promise<void> {
  const verb = `image.${step.type}`
  const command = systemCommand(tenant, verb, newCommandId(), { imageId })
  await handleCommand(snapshotter, command, async () => {
    const { state, version } = await loadImage(snapshotter.db, tenant, imageId)
    const events = decideImage(state, step)
    const decision = {
      outcome: { imageId },
      writes: [{ stream: imageId, expectedVersion: version, events: record(events) }],
    }
    if (events.length === 0 || step.type === 'ReportReplicated') return decision
    const cancel = [deadlineTimer(imageId).key]
    if (step.type === 'FailImport')
      return { ...decision, timers: { cancel, set: [cleanUpTimer(imageId, null)] } }
    const claims = state.name === null ? {} : await moveName(snapshotter.db, tenant, state.name, imageId)
    return { ...decision, claims, timers: { cancel } }
  })
}

export function deadlineTimer(imageId: ImageId, afterMs = 0): TimerToSet {
  return { key: `${imageId}:deadline`, afterMs, kind: 'image-import-deadline', payload: { imageId } }
}

/** `workers`: in whose pools it is, or may be half-made; null: any. */
export function cleanUpTimer(imageId: ImageId, workers: string[] | null): TimerToSet {
  // At once would be before the commit's own nudge; a second is soon enough for space to come back.
  return { key: `${imageId}:clean-up`, afterMs: 1_000, kind: 'image-clean-up', payload: { imageId, workers } }
}
