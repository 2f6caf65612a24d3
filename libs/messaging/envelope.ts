/** The two forms of a reply: `{ok: true, …}`, or `{error: {code, message, hint, retryable, retryAfterMs?}}`. */

import { type ErrorBody, fromErrorBody, SandtrailError, toErrorBody } from '#libs/domain'
import { decodeBody, encodeBody, type JsonObject } from './json.js'

/** A result as reply. One that is too large becomes a coded error: the caller must not wait for nothing. */
export function encodeResult(result: object | undefined): Uint8Array {
  try {
    return encodeBody({ ...result, ok: true })
  } catch (error) {
    return encodeError(error)
  }
}

export function encodeError(error: unknown): Uint8Array {
  return encodeBody({ error: toErrorBody(error) })
}

/**
 * The body of a good reply.
 *
 * @throws Rejected or SandtrailError as the peer gave it; INTERNAL when the reply has neither form.
 */
export function decodeReply(bytes: Uint8Array): JsonObject {
  const reply = decodeBody(bytes)
  if (reply.ok === true) return reply
  const { error } = reply
  if (error === null || typeof error !== 'object' || Array.isArray(error)) {
    throw new SandtrailError('INTERNAL', 'the reply has neither a result nor an error')
  }
  throw fromErrorBody({
    code: String(error.code) as ErrorBody['code'],
    message: typeof error.message === 'string' ? error.message : 'no message',
    hint: typeof error.hint === 'string' ? error.hint : null,
    retryable: error.retryable === true,
    ...(typeof error.retryAfterMs === 'number' && { retryAfterMs: error.retryAfterMs }),
  })
}
