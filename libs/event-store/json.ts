/** The gate for data on its way into an event: only what jsonb and RFC 8785 both keep exactly, as RFC 8785 text. */

import { SandtrailError } from '#libs/domain'

const DEPTH_MAX = 64
/** Of one event's data as JSON. Bulk belongs in the blob store. */
const BYTES_MAX = 1024 * 1024

/** As `canonicalJson`, of an object that is to be stored. PAYLOAD_TOO_LARGE above 1 MiB. */
export function storableJson(value: object, what: string): string {
  const text = canonicalJson(value, what)
  if (!text.startsWith('{')) throw bad(what, 'is not an object')
  const bytes = Buffer.byteLength(text)
  if (bytes > BYTES_MAX) {
    throw new SandtrailError('PAYLOAD_TOO_LARGE', `${what} has ${bytes} bytes, at most ${BYTES_MAX} are kept`)
  }
  return text
}

/**
 * RFC 8785 text, object members that are `undefined` left out as JSON.stringify does.
 * Throws INVALID_ARGUMENT with the path of the first fault: jsonb cannot hold NUL or a lone surrogate, and JSON no
 * NaN, bigint, Date or class instance.
 */
export function canonicalJson(value: unknown, path: string, depth = 0): string {
  if (depth > DEPTH_MAX) throw bad(path, `is nested deeper than ${DEPTH_MAX}`)
  switch (typeof value) {
    case 'boolean':
      return String(value)
    case 'string':
      return JSON.stringify(cleanText(value, path))
    case 'number':
      if (!Number.isFinite(value)) throw bad(path, `is ${value}, not a JSON number`)
      return JSON.stringify(value) // 0 for -0.
    case 'object':
      if (value === null) return 'null'
      if (!Array.isArray(value)) return canonicalMembers(value, path, depth)
      return `[${value.map((item, i) => canonicalJson(item, `${path}[${i}]`, depth + 1)).join()}]`
    default:
      throw bad(path, `is ${typeof value}, not JSON`)
  }
}

/** Refuses text that Postgres cannot store. Returns it unchanged. */
export function cleanText(text: string, what: string): string {
  if (text.includes('\0')) throw bad(what, 'has a NUL character')
  if (!text.isWellFormed()) throw bad(what, 'has a lone surrogate')
  return text
}

function canonicalMembers(value: object, path: string, depth: number): string {
  const prototype = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null) {
    throw bad(path, `is a ${prototype.constructor?.name ?? 'class instance'}, not a plain object`)
  }
  let members = ''
  // Sorted by UTF-16 code units, as RFC 8785 wants.
  for (const key of Object.keys(value).sort()) {
    const member = (value as Record<string, unknown>)[key]
    if (member === undefined) continue
    if (members !== '') members += ','
    members += `${JSON.stringify(cleanText(key, `a key in ${path}`))}:`
    members += canonicalJson(member, `${path}.${key}`, depth + 1)
  }
  return `{${members}}`
}

function bad(path: string, fault: string): SandtrailError {
  return new SandtrailError('INVALID_ARGUMENT', `${path} ${fault}`)
}
