/** Names and ids in a command, found in the log itself: no read model that could lag behind. */

import {
  type App,
  appAggregate,
  type Exec,
  execAggregate,
  type ImageId,
  imageAggregate,
  imageScopes,
  isId,
  Rejected,
  type Sandbox,
  type SandboxId,
  sandboxAggregate,
  snapshotAggregate,
  type VolumeId,
  type VolumeMount,
  volumeAggregate,
  type WorkerId,
} from '#libs/domain'
import { type Database, findClaim, load } from '#libs/event-store'

/** What runs when a sandbox is asked for without an image: the base image that set-up imports. */
const IMAGE_DEFAULT = 'base:latest'

export interface ResolvedImage {
  imageId: ImageId
  ref: string
  replicas: WorkerId[]
}

/** @param ref an image's name or id, or a snapshot's id. @throws Rejected IMAGE_NOT_FOUND, IMAGE_NOT_READY, SNAPSHOT_NOT_FOUND, SNAPSHOT_NOT_READY */
export async function resolveImage(db: Database, tenant: string, ref: string | null): Promise<ResolvedImage> {
  const wanted = ref ?? IMAGE_DEFAULT
  for (const scope of imageScopes(tenant)) {
    const imageId = await findImageId(db, scope, wanted)
    if (imageId === null) continue
    const { state } = await load(db, imageAggregate, imageId, { tenant: scope })
    if (state.status === 'absent') continue
    if (state.status !== 'ready') throw new Rejected('IMAGE_NOT_READY', `image ${wanted} is ${state.status}`)
    return { imageId, ref: wanted, replicas: state.replicas }
  }
  if (isId('im', wanted)) throw new Rejected('IMAGE_NOT_FOUND', `no image has the id ${wanted}`)
  if (isId('sn', wanted)) throw new Rejected('SNAPSHOT_NOT_FOUND', `no snapshot has the id ${wanted}`)
  throw new Rejected('IMAGE_NOT_FOUND', `no image is called ${JSON.stringify(wanted)}`, {
    hint:
      wanted === IMAGE_DEFAULT
        ? 'it is what sandboxes start from by default: `make up` imports it, else `sandtrail image import FILE --name base:latest --shared`'
        : '`sandtrail image ls` lists them, `sandtrail image import FILE --name REF` makes one',
  })
}

/** Null when nothing of this scope is called so. */
async function findImageId(db: Database, tenant: string, ref: string): Promise<ImageId | null> {
  if (isId('im', ref)) return ref
  if (isId('sn', ref)) {
    const { state } = await load(db, snapshotAggregate, ref, { tenant })
    if (state.status === 'absent') return null
    if (state.status !== 'completed')
      throw new Rejected('SNAPSHOT_NOT_READY', `snapshot ${ref} is ${state.status}`)
    return state.imageId
  }
  const holder = await findClaim(db, tenant, 'image-name', ref)
  return isId('im', holder) ? holder : null
}

export interface MountRequest {
  volume: string
  path: string
  readOnly: boolean
  version: number | null
}

/** @throws Rejected VOLUME_NOT_FOUND, also for a version that was never committed */
export async function resolveVolume(
  db: Database,
  tenant: string,
  { volume: ref, path, readOnly, version }: MountRequest,
): Promise<VolumeMount & { home: WorkerId }> {
  const volumeId = isId('vo', ref) ? ref : await findClaim(db, tenant, 'volume-name', ref)
  const missing = () =>
    new Rejected('VOLUME_NOT_FOUND', `no volume is called ${JSON.stringify(ref)}`, {
      hint: 'make it with `sandtrail volume create`',
    })
  if (!isId('vo', volumeId)) throw missing()
  const { state } = await load(db, volumeAggregate, volumeId, { tenant })
  if (state.status !== 'ready') throw missing()
  if (version !== null && version > state.version) {
    throw new Rejected(
      'VOLUME_NOT_FOUND',
      `volume ${state.name} has no version ${version}, its newest is ${state.version}`,
    )
  }
  return { volumeId: volumeId as VolumeId, name: state.name, path, readOnly, version, home: state.workerId }
}

/** @throws Rejected APP_NOT_FOUND, for another tenant's app too */
export async function loadApp(
  db: Database,
  tenant: string,
  appId: string,
): Promise<{ state: Exclude<App, { status: 'absent' }>; version: number }> {
  const { state, version } = await load(db, appAggregate, appId, { tenant })
  if (state.status === 'absent') throw new Rejected('APP_NOT_FOUND', `no app has the id ${appId}`)
  return { state, version }
}

export type Placed = Exclude<Sandbox, { status: 'absent' | 'created' }>

/** @throws Rejected SANDBOX_NOT_FOUND, for another tenant's sandbox too */
export async function loadSandbox(
  db: Database,
  tenant: string,
  sandboxId: string,
): Promise<{ state: Placed; version: number }> {
  const { state, version } = await load(db, sandboxAggregate, sandboxId, { tenant })
  if (state.status === 'absent' || state.status === 'created') {
    throw new Rejected('SANDBOX_NOT_FOUND', `no sandbox has the id ${sandboxId}`)
  }
  return { state, version }
}

/** @throws Rejected EXEC_NOT_FOUND, for another tenant's exec too */
export async function loadExec(
  db: Database,
  tenant: string,
  execId: string,
): Promise<{ state: Exclude<Exec, { status: 'absent' }>; version: number; sandboxId: SandboxId }> {
  const { state, version } = await load(db, execAggregate, execId, { tenant })
  if (state.status === 'absent') throw new Rejected('EXEC_NOT_FOUND', `no exec has the id ${execId}`)
  return { state, version, sandboxId: state.spec.sandboxId }
}
