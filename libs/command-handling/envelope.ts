/** From what came on a wire to a command: id, expiry and body checked, hashed, ready to be decided. */

import { createHmac } from 'node:crypto'
import canonicalize from 'canonicalize'
import type { z } from 'zod'
import { COMMAND_EXPIRY_MS_MAX, COMMAND_ID, parseBody } from '#libs/contract'
import { Rejected } from '#libs/domain'
import type { AppendRequest, CommandRef } from '#libs/event-store'

/** What the transport knows of a message beside its body. */
export interface Envelope {
  tenant: string
  commandId: string | null
  /** RFC 3339. */
  expiresAt: string | null
  actor: string
  traceparent: string | null
}

export interface Command<Body> {
  tenant: string
  ref: CommandRef
  meta: AppendRequest['meta']
  body: Body
}

/** Clocks of callers and services may differ by this much. */
const CLOCK_SKEW_MS = 60_000

/**
 * @param hashKey keys the hash that tells a re-send from a re-used id: bodies may hold values of env, and a plain
 * hash of a short secret could be guessed.
 * @throws Rejected INVALID_ARGUMENT or COMMAND_EXPIRED; not stored, for without a sound envelope there is no id
 */
export function toCommand<S extends z.ZodType>(
  schema: S,
  verb: string,
  envelope: Envelope,
  body: unknown,
  hashKey: Buffer,
): Command<z.output<S>> {
  const { tenant, commandId, actor, traceparent } = envelope
  if (commandId === null || !COMMAND_ID.test(commandId)) {
    throw new Rejected('INVALID_ARGUMENT', 'the command id is missing or malformed', {
      hint: 'set the header Sandtrail-Command-Id to 8 to 128 letters, digits, ".", "_", ":" or "-"',
    })
  }
  const expiresAt = parseExpiry(envelope.expiresAt)
  const parsed = parseBody(schema, body)
  const hash = createHmac('sha256', hashKey)
    .update(canonicalize({ verb, body: parsed }) as string)
    .digest()
  return {
    tenant,
    ref: { id: commandId, verb, hash, expiresAt },
    meta: {
      actor,
      causationId: null,
      correlationId: commandId,
      traceparent,
      workerId: null,
      epoch: null,
    },
    body: parsed,
  }
}

function parseExpiry(text: string | null): Date {
  const expiresAt = text === null ? new Date(Number.NaN) : new Date(text)
  if (Number.isNaN(expiresAt.getTime())) {
    throw new Rejected('INVALID_ARGUMENT', 'expiresAt is missing or not a time', {
      hint: 'set the header Sandtrail-Expires-At to an RFC 3339 time at most 24 h ahead',
    })
  }
  const fromNow = expiresAt.getTime() - Date.now()
  if (fromNow <= 0) {
    throw new Rejected('COMMAND_EXPIRED', 'the command came after its expiresAt', {
      hint: 'send it with a new id',
    })
  }
  if (fromNow > COMMAND_EXPIRY_MS_MAX + CLOCK_SKEW_MS) {
    throw new Rejected('INVALID_ARGUMENT', 'expiresAt is more than 24 h ahead')
  }
  return expiresAt
}
