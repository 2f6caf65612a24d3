/** A sandbox's name is unique among the tenant's live ones: a claim taken with its create, given back at its end. */

import type { SandboxId } from '#libs/domain'
import type { Claim } from '#libs/event-store'

export function nameClaim(name: string, sandboxId: SandboxId): Claim {
  return { kind: 'sandbox-name', key: name, holder: sandboxId }
}
