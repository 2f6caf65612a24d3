/**
 * A sandbox's name is unique among the live ones of its app, or among the tenant's that are of no app: a claim taken with
 * its create, given back at its end.
 */

import {
  type AppId,
  type AppSpec,
  Rejected,
  type SandboxId,
  type SandboxSpec,
  type VolumeId,
} from '#libs/domain'
import type { Claim } from '#libs/event-store'

/** None for a sandbox without a name. */
export function nameClaims(
  { name, appId }: Pick<SandboxSpec, 'name' | 'appId'>,
  sandboxId: SandboxId,
): Claim[] {
  if (name === null) return []
  return [{ kind: 'sandbox-name', key: appId ? `${appId}/${name}` : name, holder: sandboxId }]
}

export function nameTaken({ name, appId }: Pick<SandboxSpec, 'name' | 'appId'>): Rejected {
  const where = appId ? ` in the app ${appId}` : ''
  return new Rejected('NAME_TAKEN', `a running sandbox is called ${name} already${where}`, {
    hint: 'choose another name, or end that sandbox first',
  })
}

/** Held while the app runs: a create in it requires this, and so cannot pass its stop unseen. */
export function appClaim(appId: AppId): Claim {
  return { kind: 'app', key: appId, holder: appId }
}

/** None for an app without a name. */
export function appNameClaims({ name, environment }: AppSpec, appId: AppId): Claim[] {
  return name === null ? [] : [{ kind: 'app-name', key: `${environment}/${name}`, holder: appId }]
}

/** Made with the volume, by the volume-syncer, and given back when it is removed. */
export function volumeClaim(name: string, volumeId: VolumeId): Claim {
  return { kind: 'volume-name', key: name, holder: volumeId }
}
