/** Values that fit a schema, made from the JSON schema that the OpenAPI document is made from too. */

import fc from 'fast-check'
import { z } from 'zod'

interface Schema {
  type?: string
  const?: unknown
  enum?: unknown[]
  anyOf?: Schema[]
  oneOf?: Schema[]
  properties?: Record<string, Schema>
  required?: string[]
  propertyNames?: Schema
  additionalProperties?: Schema | boolean
  items?: Schema
  pattern?: string
  minLength?: number
  maxLength?: number
  minItems?: number
  minimum?: number
  maximum?: number
}

/** Waits are short here: an answer that takes long is what is looked for. */
const WAITS = new Set(['timeoutMs', 'waitMs', 'idleTimeoutMs'])
const WAIT_MS_MAX = 20
/** By the kind of an id, what stands for a thing that exists: filled in when it is sent. */
const THINGS: Record<string, string> = {
  sb: '{sandbox}',
  ex: '{exec}',
  wk: '{worker}',
  vo: '{volume}',
  im: '{image}',
  ap: '{app}',
}
/** By the name of a field that takes names too. */
const NAMED: Record<string, string> = {
  image: '{image}',
  volume: '{volume}',
  sandbox: '{sandbox}',
  tenant: '{tenant}',
  sha256: '{sha256}',
}

export function fitting(schema: z.ZodType): fc.Arbitrary<unknown> {
  return valid(z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Schema, '')
}

function valid(schema: Schema, name: string): fc.Arbitrary<unknown> {
  if ('const' in schema) return fc.constant(schema.const)
  if (schema.enum) return fc.constantFrom(...schema.enum)
  const either = schema.anyOf ?? schema.oneOf
  if (either) return fc.oneof(...either.map((one) => valid(one, name)))
  switch (schema.type) {
    case 'null':
      return fc.constant(null)
    case 'boolean':
      return fc.boolean()
    case 'integer':
    case 'number':
      return whole(schema, name)
    case 'string':
      return words(schema, name)
    case 'array':
      return fc.array(valid(schema.items ?? {}, name), { minLength: schema.minItems ?? 0, maxLength: 4 })
    case 'object':
      return members(schema)
    default:
      return fc.jsonValue({ maxDepth: 2 })
  }
}

function whole(
  { minimum = 0, maximum = Number.MAX_SAFE_INTEGER }: Schema,
  name: string,
): fc.Arbitrary<number> {
  if (WAITS.has(name)) return fc.integer({ min: minimum, max: Math.min(maximum, minimum + WAIT_MS_MAX) })
  return fc.oneof(
    fc.constantFrom(minimum, maximum),
    fc.integer({ min: minimum, max: Math.min(maximum, minimum + 1_000) }),
  )
}

function words({ pattern, minLength = 0, maxLength = 64 }: Schema, name: string): fc.Arbitrary<string> {
  const any = fc.string({ minLength, maxLength: Math.min(maxLength, 40) })
  const kind = /^\^\(?([a-z]{2})-/.exec(pattern ?? '')?.[1]
  const thing = kind === undefined ? NAMED[name] : THINGS[kind]
  const other = pattern === undefined ? any : (matching(pattern) ?? any)
  return thing === undefined
    ? other
    : fc.oneof({ weight: 3, arbitrary: fc.constant(thing) }, { weight: 1, arbitrary: other })
}

function matching(pattern: string): fc.Arbitrary<string> | null {
  try {
    return fc.stringMatching(new RegExp(pattern), { size: 'small' })
  } catch {
    return null // Some forms (look-ahead, classes of Unicode) are not made here: any text does.
  }
}

function members({
  properties = {},
  required = [],
  propertyNames,
  additionalProperties,
}: Schema): fc.Arbitrary<unknown> {
  const known = fc.record(
    Object.fromEntries(Object.entries(properties).map(([name, schema]) => [name, valid(schema, name)])),
    { requiredKeys: required },
  )
  if (typeof additionalProperties !== 'object' || Object.keys(additionalProperties).length === 0) return known
  return fc.dictionary(
    valid(propertyNames ?? { type: 'string' }, '') as fc.Arbitrary<string>,
    valid(additionalProperties, ''),
    {
      maxKeys: 4,
    },
  )
}
