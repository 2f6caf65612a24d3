/** The gate for data on its way into an event: only what jsonb and RFC 8785 both keep exactly. */

import { SandtrailError } from '#libs/domain'
import type { Json, JsonObject } from './types.js'

const DEPTH_MAX = 64
/** Of one event's data as JSON. Bulk belongs in the blob store. */
const BYTES_MAX = 1024 * 1024

/**
 * Returns a plain copy, object members that are `undefined` left out as JSON.stringify does.
 * Throws INVALID_ARGUMENT with the path of the first fault: jsonb cannot hold NUL or a lone surrogate, and JSON no
 * NaN, bigint, Date or class instance. PAYLOAD_TOO_LARGE above 1 MiB.
 */
export function cleanObject(value: object, what: string): JsonObject {
  const copy = clean(value, what, 0)
  if (copy === null || typeof copy !== 'object' || Array.isArray(copy)) throw bad(what, 'is not an object')
  const bytes = Buffer.byteLength(JSON.stringify(copy))
  if (bytes > BYTES_MAX) {
    throw new SandtrailError('PAYLOAD_TOO_LARGE', `${what} has ${bytes} bytes, at most ${BYTES_MAX} are kept`)
  }
  return copy
}

/** Refuses text that Postgres cannot store. Returns it unchanged. */
export function cleanText(text: string, what: string): string {
  if (text.includes('\0')) throw bad(what, 'has a NUL character')
  if (!text.isWellFormed()) throw bad(what, 'has a lone surrogate')
  return text
}

function clean(value: unknown, path: string, depth: number): Json {
  if (depth > DEPTH_MAX) throw bad(path, `is nested deeper than ${DEPTH_MAX}`)
  switch (typeof value) {
    case 'boolean':
      return value
    case 'string':
      return cleanText(value, path)
    case 'number':
      if (!Number.isFinite(value)) throw bad(path, `is ${value}, not a JSON number`)
      return Object.is(value, -0) ? 0 : value
    case 'object':
      if (value === null) return null
      if (Array.isArray(value)) return value.map((item, i) => clean(item, `${path}[${i}]`, depth + 1))
      return cleanMembers(value, path, depth)
    default:
      throw bad(path, `is ${typeof value}, not JSON`)
  }
}

function cleanMembers(value: object, path: string, depth: number): JsonObject {
  const prototype = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null) {
    throw bad(path, `is a ${prototype.constructor?.name ?? 'class instance'}, not a plain object`)
  }
  const members: [string, Json][] = []
  for (const [key, member] of Object.entries(value)) {
    if (member === undefined) continue
    members.push([cleanText(key, `a key in ${path}`), clean(member, `${path}.${key}`, depth + 1)])
  }
  return Object.fromEntries(members)
}

function bad(path: string, fault: string): SandtrailError {
  return new SandtrailError('INVALID_ARGUMENT', `${path} ${fault}`)
}
