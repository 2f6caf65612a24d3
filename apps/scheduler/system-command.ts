/** Commands that the scheduler gives itself; their ids are derived from their cause, so that twice is once. */

import type { Command } from '#libs/command-handling'
import { commandHash, type JsonObject } from '#libs/event-store'

const ACTOR = 'system:scheduler'
const HOUR_MS = 3_600_000

export function systemCommand<Body extends JsonObject>(
  tenant: string,
  verb: string,
  id: string,
  body: Body,
  causationId: string | null = null,
): Command<Body> {
  return {
    tenant,
    ref: { id, verb, hash: commandHash(verb, body), expiresAt: new Date(Date.now() + HOUR_MS) },
    meta: { actor: ACTOR, causationId, correlationId: null, traceparent: null, workerId: null, epoch: null },
    body,
  }
}
