/**
 * What comes on a wire against its schema. A refusal says where and what is wrong in our own words, never the value:
 * it may be a secret, a megabyte or an escape sequence, and so may a key that nobody knows.
 */

import { z } from 'zod'
import { Rejected } from '#libs/domain'

type RawIssue = z.core.$ZodRawIssue

/** Of one key in a path, in UTF-16 units. */
const KEY_SHOWN_MAX = 64
/** Of the keys that could have been meant. */
const KNOWN_SHOWN_MAX = 12
const HINT = 'every field and its limits: GET /openapi.json, docs/asyncapi.yaml'

/** @throws Rejected INVALID_ARGUMENT that names the first bad field and what is wrong with it */
export function parseBody<S extends z.ZodType>(schema: S, body: unknown): z.output<S> {
  const result = schema.safeParse(body, { error: words })
  if (result.success) return result.data
  const issue = result.error.issues[0]!
  const path = issue.path.map(shownKey).join('.')
  if (issue.code === 'unrecognized_keys') {
    const key = shownKey(issue.keys[0] ?? '')
    const hint = path === '' ? knownFields(schema) : HINT
    throw new Rejected('INVALID_ARGUMENT', `unknown field ${path === '' ? key : `${path}.${key}`}`, { hint })
  }
  const hint = body === undefined ? "send JSON, by HTTP with 'Content-Type: application/json'" : HINT
  throw new Rejected('INVALID_ARGUMENT', `${path || 'the body'}: ${issue.message}`, { hint })
}

function knownFields(schema: z.ZodType): string {
  if (!(schema instanceof z.ZodObject)) return HINT
  const names = Object.keys(schema.shape)
  if (names.length === 0) return 'send none'
  if (names.length <= KNOWN_SHOWN_MAX) return `there are ${names.join(', ')}`
  return `there are ${names.slice(0, KNOWN_SHOWN_MAX).join(', ')} ...; ${HINT}`
}

/** Messages that a schema brings itself win over these. Undefined: zod's own. */
function words(issue: RawIssue): string | undefined {
  switch (issue.code) {
    case 'invalid_type':
      if (issue.input === undefined) return 'is missing'
      return `must be ${KINDS[issue.expected] ?? issue.expected}, not ${kindOf(issue.input)}`
    case 'too_big':
      return `must ${bound(issue.origin, 'at most', issue.maximum)}`
    case 'too_small':
      if (issue.minimum === 1 && (issue.origin === 'string' || issue.origin === 'array')) {
        return 'must not be empty'
      }
      return `must ${bound(issue.origin, 'at least', issue.minimum)}`
    case 'invalid_value':
      return `must be ${issue.values.length > 1 ? 'one of ' : ''}${issue.values.map(String).join(', ')}`
    case 'invalid_format':
      return `must be ${FORMATS[issue.format] ?? `of the form ${issue.format}`}`
    case 'invalid_key':
      return issue.issues[0]?.message
    case 'invalid_union':
      return unionWords(issue)
    default:
      return undefined
  }
}

function unionWords(issue: Extract<RawIssue, { code: 'invalid_union' }>): string {
  const branches = (issue.errors ?? []).flatMap((errors) => errors[0] ?? [])
  const said = branches.map(({ path, message }) => [path.map(shownKey).join('.'), message].join(' ').trim())
  return said.length === 0 ? 'is of no kind that is known here' : [...new Set(said)].join(', or ')
}

const KINDS: Record<string, string> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  object: 'an object',
  record: 'an object',
  array: 'a list',
  null: 'null',
}
const FORMATS: Record<string, string> = { base64: 'base64', url: 'a URL' }

function bound(origin: string, how: string, limit: number | bigint): string {
  if (origin === 'string') return `have ${how} ${limit} characters`
  if (origin === 'array' || origin === 'object' || origin === 'record') return `have ${how} ${limit} entries`
  return `be ${how} ${limit}`
}

function kindOf(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'a list'
  if (Number.isNaN(value)) return 'NaN'
  if (typeof value === 'number' && !Number.isInteger(value)) return 'a fraction'
  return KINDS[typeof value] ?? typeof value
}

/** A caller's own key comes back in the message, but not without end and not with control characters. */
function shownKey(key: PropertyKey): string {
  const text = String(key)
  const shown = text.length > KEY_SHOWN_MAX ? `${text.slice(0, KEY_SHOWN_MAX)}...` : text
  return /^[\w.:@/-]+$/.test(shown) ? shown : JSON.stringify(shown.toWellFormed())
}
