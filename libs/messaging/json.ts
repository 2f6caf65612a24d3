/**
 * JSON on the wire: a message's body is one JSON object, at most 1 MiB and 64 levels deep, in valid UTF-8, without
 * `__proto__`. Checked on both sides, so that what was sent is also accepted.
 */

import { Rejected } from '#libs/domain'

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json }
export type JsonObject = { [key: string]: Json }

export const BODY_BYTES_MAX = 1024 ** 2
export const BODY_DEPTH_MAX = 64

const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPENERS = new Set([0x5b, 0x7b])
const CLOSERS = new Set([0x5d, 0x7d])

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const encoder = new TextEncoder()

/**
 * A body as bytes.
 *
 * @throws Rejected PAYLOAD_TOO_LARGE above 1 MiB, INVALID_ARGUMENT above 64 levels or when `body` is not JSON.
 */
export function encodeBody(body: object): Uint8Array {
  let text: string | undefined
  try {
    text = JSON.stringify(body)
  } catch {
    throw new Rejected('INVALID_ARGUMENT', 'the message is not JSON')
  }
  if (text?.[0] !== '{') throw new Rejected('INVALID_ARGUMENT', 'the message must be a JSON object')
  const bytes = encoder.encode(text)
  check(bytes)
  return bytes
}

/**
 * The body of a message from outside; an empty one is `{}`.
 *
 * @throws Rejected PAYLOAD_TOO_LARGE above 1 MiB, else INVALID_ARGUMENT. No text of the body is repeated.
 */
export function decodeBody(bytes: Uint8Array): JsonObject {
  if (bytes.length === 0) return {}
  check(bytes)
  let text: string
  try {
    text = utf8.decode(bytes)
  } catch {
    throw new Rejected('INVALID_ARGUMENT', 'the message is not valid UTF-8')
  }
  let value: unknown
  try {
    value = JSON.parse(text, refusePrototype)
  } catch (error) {
    if (error instanceof Rejected) throw error
    // V8's message quotes the input, which may hold secrets: it is not passed on.
    throw new Rejected('INVALID_ARGUMENT', 'the message is not JSON')
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw new Rejected('INVALID_ARGUMENT', 'the message must be a JSON object')
  }
  return value as JsonObject
}

function check(bytes: Uint8Array): void {
  if (bytes.length > BODY_BYTES_MAX) {
    throw new Rejected(
      'PAYLOAD_TOO_LARGE',
      `the message has ${bytes.length} bytes, the limit is ${BODY_BYTES_MAX}`,
      { hint: 'bulk data goes over HTTP' },
    )
  }
  if (depthOf(bytes) > BODY_DEPTH_MAX) {
    throw new Rejected('INVALID_ARGUMENT', `the message is nested more than ${BODY_DEPTH_MAX} levels`)
  }
}

/** The deepest nesting, found before parsing: no parser or recursive reader ever sees a deeper text. */
function depthOf(bytes: Uint8Array): number {
  let depth = 0
  let deepest = 0
  let inString = false
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i]!
    if (inString) {
      if (byte === BACKSLASH) i++
      else if (byte === QUOTE) inString = false
    } else if (byte === QUOTE) inString = true
    else if (OPENERS.has(byte)) deepest = Math.max(deepest, ++depth)
    else if (CLOSERS.has(byte)) depth--
  }
  return deepest
}

/** `JSON.parse` makes an own property of it, but the next copy by assignment would set the prototype. */
function refusePrototype(key: string, value: unknown): unknown {
  if (key === '__proto__') {
    throw new Rejected('INVALID_ARGUMENT', 'the message must not have a key "__proto__"')
  }
  return value
}
