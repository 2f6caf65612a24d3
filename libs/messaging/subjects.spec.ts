import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { isCommandId, matches, parseSubject, streamOf, subjects } from './subjects.js'

const ULID = '01J0000000000000000000000A'

test('what a builder made, the parser reads', () => {
  expect(parseSubject(subjects.request('acme', 'sandbox', 'create'))).toEqual({
    kind: 'request',
    tenant: 'acme',
    aggregate: 'sandbox',
    verb: 'create',
  })
  expect(parseSubject(subjects.command('acme', 'volume', 'commit'))).toMatchObject({ kind: 'command' })
  expect(parseSubject(subjects.event('acme', `sb-${ULID}`, 'SandboxStarted'))).toEqual({
    kind: 'event',
    tenant: 'acme',
    aggregate: 'sandbox',
    id: `sb-${ULID}`,
    type: 'SandboxStarted',
  })
  expect(parseSubject(subjects.outcome('acme', 'a.command.id'))).toEqual({
    kind: 'outcome',
    tenant: 'acme',
    commandId: 'a.command.id',
  })
  expect(parseSubject(subjects.worker(`wk-${ULID}`, 'order'))).toMatchObject({
    kind: 'worker',
    what: 'order',
  })
  expect(parseSubject(subjects.control(`wk-${ULID}`, 'report'))).toMatchObject({
    kind: 'control',
    what: 'report',
  })
  expect(parseSubject(subjects.nudge)).toEqual({ kind: 'nudge' })
})

for (const hostile of [
  '',
  '*',
  '>',
  'a.b',
  'Acme',
  'acme ',
  'acme\r\n',
  '-acme',
  'a'.repeat(32),
  '../acme',
]) {
  test(`a tenant named ${JSON.stringify(hostile)} gets no subject`, () => {
    expect(() => subjects.request(hostile, 'sandbox', 'create')).toThrow('not a tenant')
    expect(parseSubject(`v1.${hostile}.req.sandbox.create`)).toBeNull()
  })
}

test('no text becomes more than it is: a builder gives a subject with its own number of tokens, or throws', () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), fc.string(), (tenant, aggregate, verb) => {
      try {
        expect(subjects.command(tenant, aggregate, verb).split('.')).toHaveLength(5)
      } catch (error) {
        expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' })
      }
    }),
  )
})

test('every stream has a subject, whatever its name, and an event’s id comes back', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', minLength: 1 }), (name) => {
      for (const stream of [name, `command:acme:${name}`]) {
        const subject = subjects.event('acme', stream, 'CommandRejected')
        expect(subject).toMatch(/^v1\.acme\.evt\.[a-z]+\.[^.*>\s]+\.CommandRejected$/)
        const { aggregate } = streamOf(stream)
        const id = aggregate === 'command' ? stream.slice('command:acme:'.length) : stream
        expect(parseSubject(subject)).toMatchObject({ aggregate, id })
      }
    }),
  )
})

test('a command id has no empty token, for it ends a subject', () => {
  for (const id of ['12345678', '0190-abcd-ef', 'a.b:c_d-e', 'A'.repeat(128)])
    expect(isCommandId(id)).toBe(true)
  for (const id of [
    '1234567',
    'a'.repeat(129),
    'abcdefgh.',
    'abcd..efgh',
    '.abcdefgh',
    'abcd*fgh',
    'abcd fgh',
    '',
  ]) {
    expect(isCommandId(id)).toBe(false)
  }
})

test('a filter matches as the broker does', () => {
  for (const [filter, subject, result] of [
    ['v1.*.req.sandbox.*', 'v1.acme.req.sandbox.create', true],
    ['v1.*.req.sandbox.*', 'v1.acme.req.sandbox', false],
    ['v1.*.req.sandbox.*', 'v1.acme.req.sandbox.create.now', false],
    ['v1.*.evt.>', 'v1.acme.evt.sandbox.id.Type', true],
    ['v1.*.evt.>', 'v1.acme.evt', false],
    ['v1.acme.cmd.sandbox.create', 'v1.acme.cmd.sandbox.create', true],
  ] as const) {
    expect(matches(filter, subject)).toBe(result)
  }
})
