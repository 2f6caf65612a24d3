/** Whether the API token behind a router token still counts: a router token itself is good for an hour. */

import { Rejected } from '#libs/domain'
import { findTokenById } from '#libs/event-store'
import type { Gateway } from '../gateway.js'
import { Recent } from '../recent.js'

/** A revocation holds after so long at the latest. */
const BELIEVED_MS = 5_000
const KNOWN_MAX = 10_000

export class TokenCheck {
  private readonly seenAtMs = new Recent<number>(KNOWN_MAX)

  constructor(private readonly gateway: Pick<Gateway, 'db'>) {}

  /** @throws Rejected UNAUTHENTICATED */
  async require({ tenant, tokenId }: { tenant: string; tokenId: string }): Promise<void> {
    const now = performance.now()
    const seenAtMs = this.seenAtMs.get(tokenId)
    if (seenAtMs !== undefined && now - seenAtMs < BELIEVED_MS) return
    const token = await findTokenById(this.gateway.db, tenant, tokenId)
    if (token === null || token.revokedAt !== null) {
      throw new Rejected('UNAUTHENTICATED', 'the token behind this access was revoked')
    }
    this.seenAtMs.set(tokenId, now)
  }
}
