/** Volumes and the sandboxes that mount them, found in the log itself. */

import {
  isId,
  Rejected,
  type Sandbox,
  type SandboxId,
  sandboxAggregate,
  type Volume,
  type VolumeId,
  type VolumeMount,
  volumeAggregate,
} from '#libs/domain'
import { type Claim, findClaim, load } from '#libs/event-store'
import type { VolumeSyncer } from './context.js'

export type KnownVolume = Exclude<Volume, { status: 'absent' }>

export function volumeName(name: string, volumeId: VolumeId): Claim {
  return { kind: 'volume-name', key: name, holder: volumeId }
}

/** @param ref name or id. @throws Rejected VOLUME_NOT_FOUND, for another tenant's volume too */
export async function findVolume({ db }: VolumeSyncer, tenant: string, ref: string): Promise<VolumeId> {
  if (isId('vo', ref)) return ref
  const holder = await findClaim(db, tenant, 'volume-name', ref)
  if (isId('vo', holder)) return holder
  throw new Rejected('VOLUME_NOT_FOUND', `no volume is called ${JSON.stringify(ref)}`, {
    hint: 'see `sandtrail volume ls`, make one with `sandtrail volume create`',
  })
}

export async function loadVolume(
  { db }: VolumeSyncer,
  tenant: string,
  volumeId: VolumeId,
): Promise<{ state: KnownVolume; version: number }> {
  const { state, version } = await load(db, volumeAggregate, volumeId, { tenant })
  if (state.status === 'absent') throw new Rejected('VOLUME_NOT_FOUND', `no volume has the id ${volumeId}`)
  return { state, version }
}

/** The running sandbox, and its mount of the volume. @throws Rejected when there is none */
export async function findMount(
  { db }: VolumeSyncer,
  tenant: string,
  sandboxId: SandboxId,
  volumeId: VolumeId,
): Promise<{ sandbox: Extract<Sandbox, { status: 'running' }>; mount: VolumeMount }> {
  const { state } = await load(db, sandboxAggregate, sandboxId, { tenant })
  if (state.status === 'absent') throw new Rejected('SANDBOX_NOT_FOUND', `no sandbox has the id ${sandboxId}`)
  if (state.status !== 'running')
    throw new Rejected('SANDBOX_NOT_RUNNING', `sandbox ${sandboxId} is ${state.status}`)
  const mount = state.spec.volumes.find((volume) => volume.volumeId === volumeId)
  if (mount) return { sandbox: state, mount }
  throw new Rejected('INVALID_ARGUMENT', `sandbox ${sandboxId} does not mount this volume`)
}
