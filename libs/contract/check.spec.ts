import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { z } from 'zod'
import { Rejected } from '#libs/domain'
import { parseBody } from './check.js'
import { COMMANDS, sandboxCreate, sandboxExec } from './commands.js'

const SANDBOX = 'sb-01JTESTTESTTESTTESTTESTTE0'

function refusal(schema: z.ZodType, body: unknown): string {
  try {
    parseBody(schema, body)
  } catch (error) {
    expect(error).toBeInstanceOf(Rejected)
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', hint: expect.any(String) })
    return (error as Rejected).message
  }
  throw new Error('it was taken')
}

test.each<[string, z.ZodType, unknown, string]>([
  ['no body', sandboxCreate, undefined, 'the body: is missing'],
  ['a list for a body', sandboxCreate, [], 'the body: must be an object, not a list'],
  ['a missing field', sandboxExec, { argv: ['x'] }, 'sandboxId: is missing'],
  ['another type', sandboxCreate, { timeoutMs: '5' }, 'timeoutMs: must be a number, not a text'],
  ['a fraction', sandboxCreate, { timeoutMs: 1.5 }, 'timeoutMs: must be a whole number, not a fraction'],
  ['too much', sandboxCreate, { timeoutMs: 1e9 }, 'timeoutMs: must be at most 86400000'],
  ['2^53', sandboxCreate, { memoryBytes: 2 ** 53 }, 'memoryBytes: must be at most 9007199254740991'],
  ['too little', sandboxCreate, { memoryBytes: 1 }, 'memoryBytes: must be at least 33554432'],
  ['a long text', sandboxCreate, { user: 'x'.repeat(65) }, 'user: must have at most 64 characters'],
  ['nothing where there must be something', sandboxCreate, { command: [] }, 'command: must not be empty'],
  [
    'a line break in a user',
    sandboxCreate,
    { user: 'root\n' },
    'user: must be a user like root, 1000 or 1000:1000',
  ],
  ['a word that is none of ours', sandboxCreate, { network: 'wifi' }, 'network: must be one of none, open'],
  ['a bad key of an env', sandboxCreate, { env: { 'A=B': '' } }, 'env."A=B": must be a name like PATH'],
  [
    'a field deep inside',
    sandboxCreate,
    { volumes: [{ volume: 'v', path: 'x' }] },
    'volumes.0.path: must be absolute and without ".."',
  ],
  [
    'an unknown field',
    sandboxCreate,
    { volumes: [{ volume: 'v', path: '/x', ro: true }] },
    'unknown field volumes.0.ro',
  ],
  [
    'no base64',
    sandboxExec,
    { sandboxId: SANDBOX, argv: ['x'], stdinBase64: '?' },
    'stdinBase64: must be base64',
  ],
  [
    'either',
    z.strictObject({ a: z.union([z.string(), z.int()]) }),
    { a: [] },
    'a: must be a text, not a list, or must be a number, not a list',
  ],
])('%s is refused with where and why', (_, schema, body, message) => {
  expect(refusal(schema, body)).toBe(message)
})

test('a misspelt field is told which there are', () => {
  expect(() =>
    parseBody(COMMANDS['sandbox.signal'], {
      execid: 'x',
      execId: 'ex-01JTESTTESTTESTTESTTESTTE0',
      signal: 9,
    }),
  ).toThrow(expect.objectContaining({ message: 'unknown field execid', hint: 'there are execId, signal' }))
})

test('whatever the keys and values: short, printable, and no value comes back', () => {
  const secret = 'hunter2-hunter2'
  const value = fc.oneof(fc.constant(secret), fc.constant([secret]), fc.constant({ x: secret }))
  const body = fc.dictionary(
    fc.oneof(
      fc.constantFrom(...Object.keys(sandboxCreate.shape)),
      fc.string({ unit: 'binary', maxLength: 200 }),
    ),
    value,
    { minKeys: 1 },
  )
  fc.assert(
    fc.property(fc.constantFrom(...Object.values(COMMANDS)), body, (schema, fields) => {
      try {
        parseBody(schema, fields)
      } catch (error) {
        const { message } = error as Rejected
        expect(error).toBeInstanceOf(Rejected)
        expect(message.length).toBeLessThan(500)
        expect(message).not.toMatch(/\p{Cc}|hunter2/u)
      }
    }),
    { numRuns: 2_000 },
  )
})
