/** Commands that a service gives itself: when a timer fires, when work is done, when an event calls for another. */

import { commandHash, type JsonObject } from '#libs/event-store'
import type { Command } from './envelope.js'

const HOUR_MS = 3_600_000

/**
 * @param service whose doing it is, as in `system:<service>`
 * @param id derived from the cause where the same cause must not act twice, else new
 */
export function systemCommand<Body extends JsonObject>(
  service: string,
  { tenant, verb, id, body, causationId = null }: SystemCause<Body>,
): Command<Body> {
  return {
    tenant,
    ref: { id, verb, hash: commandHash(verb, body), expiresAt: new Date(Date.now() + HOUR_MS) },
    meta: {
      actor: `system:${service}`,
      causationId,
      correlationId: null,
      traceparent: null,
      workerId: null,
      epoch: null,
    },
    body,
  }
}

export interface SystemCause<Body extends JsonObject> {
  tenant: string
  verb: string
  id: string
  body: Body
  /** Id of the event that it follows from. */
  causationId?: string | null
}
