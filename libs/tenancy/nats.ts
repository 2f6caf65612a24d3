/** The gate of requests that come from a tenant's own account. What a service of the platform asks was counted there. */

import type { Gate } from './gate.js'

interface Asking {
  tenant: string
  actor: string
  /** Of the subject `v1.<tenant>.req.<aggregate>.<verb>`, which is one that we serve. */
  tokens: readonly string[]
}

/** For the transport: called with each request before its body is read. @throws SandtrailError RESOURCE_EXHAUSTED */
export function admitRequests(gate: Gate): (context: Asking) => Promise<void> {
  return async ({ tenant, actor, tokens }) => {
    if (actor.startsWith('nats:'))
      await gate.admit('requests', { tenant, actor, action: tokens.slice(3).join('.') })
  }
}
