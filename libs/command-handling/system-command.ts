/** Commands that a service gives itself. Their ids are derived from their cause, so that twice is once. */

import { commandHash, type JsonObject } from '#libs/event-store'
import type { Command } from './envelope.js'

const HOUR_MS = 3_600_000

/** @param actor `system:<service>`, as it will stand in the events */
export function systemCommandOf(actor: string) {
  return <Body extends JsonObject>(
    tenant: string,
    verb: string,
    id: string,
    body: Body,
    causationId: string | null = null,
  ): Command<Body> => ({
    tenant,
    ref: { id, verb, hash: commandHash(verb, body), expiresAt: new Date(Date.now() + HOUR_MS) },
    meta: { actor, causationId, correlationId: null, traceparent: null, workerId: null, epoch: null },
    body,
  })
}
