/** A sandbox's name is unique among the tenant's live ones: a claim taken with its create, given back at its end. */

import type { SandboxId, VolumeId } from '#libs/domain'
import type { Claim } from '#libs/event-store'

export function nameClaim(name: string, sandboxId: SandboxId): Claim {
  return { kind: 'sandbox-name', key: name, holder: sandboxId }
}

/** Made with the volume, by the volume-syncer, and given back when it is removed. */
export function volumeClaim(name: string, volumeId: VolumeId): Claim {
  return { kind: 'volume-name', key: name, holder: volumeId }
}
