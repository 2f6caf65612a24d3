import { createHash } from 'node:crypto'
import { expect, test } from '@jest/globals'
import canonicalize from 'canonicalize'
import fc from 'fast-check'
import { commandHash, derivedCommandId, type Envelope, hashEvent, NO_HASH } from './envelope.js'
import { canonicalJson, storableJson } from './json.js'
import type { JsonObject } from './types.js'

const envelope = (changes: Partial<Envelope> = {}): Envelope => ({
  tenant: 'acme',
  stream: 'sb-1',
  version: 1,
  type: 'SandboxCreated',
  typeVersion: 1,
  at: new Date('2026-11-24T06:00:00.000Z'),
  eventId: '00000000-0000-4000-8000-000000000000',
  data: { b: 1, a: 'ü' },
  sealed: Buffer.from([1, 2]),
  meta: {
    actor: 'token:ak-1',
    commandId: 'c',
    causationId: null,
    correlationId: null,
    traceparent: null,
    workerId: null,
    epoch: null,
    effects: null,
  },
  prevHash: NO_HASH,
  ...changes,
})

test('form 1 of the envelope is exactly this text: a change would break every chain', () => {
  const text =
    '{"at":"2026-11-24T06:00:00.000Z","data":{"a":"ü","b":1},"eventId":"00000000-0000-4000-8000-000000000000",' +
    '"meta":{"actor":"token:ak-1","causationId":null,"commandId":"c","correlationId":null,"effects":null,' +
    '"epoch":null,"traceparent":null,"workerId":null},' +
    `"prevHash":"${'00'.repeat(32)}","sealed":"AQI=","stream":"sb-1","tenant":"acme","type":"SandboxCreated",` +
    '"typeVersion":1,"v":1,"version":1}'
  expect(hashEvent(envelope()).toString('hex')).toBe(createHash('sha256').update(text).digest('hex'))
})

test('the order of keys changes nothing, anything else does', () => {
  expect(hashEvent(envelope({ data: { a: 'ü', b: 1 } }))).toEqual(hashEvent(envelope()))
  const others = [
    { tenant: 'acmf' },
    { version: 2 },
    { at: new Date('2026-11-24T06:00:00.001Z') },
    { data: { b: 1, a: 'u' } },
    { sealed: null },
    { prevHash: Buffer.alloc(32, 1) },
  ]
  const hashes = [envelope(), ...others.map(envelope)].map((each) => hashEvent(each).toString('hex'))
  expect(new Set(hashes).size).toBe(hashes.length)
})

test('property: what passes the gate is RFC 8785, and hashes the same after a round trip through JSON', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue()), (data) => {
      let text: string
      try {
        text = storableJson(data, 'data')
      } catch {
        return // Refused: NUL, lone surrogates.
      }
      expect(text).toBe(canonicalize(data))
      const back = JSON.parse(text)
      expect(hashEvent(envelope({ data: back }))).toEqual(hashEvent(envelope({ data: data as JsonObject })))
    }),
  )
})

test('RFC 8785 orders keys by code units, and knows one zero and no undefined', () => {
  const value = { 10: -0, 9: 1e21, '\ufb33': 1, '\ud83d\ude00': 1, ö: undefined, 'a"': [null, true] }
  expect(canonicalJson(value, 'v')).toBe('{"10":0,"9":1e+21,"a\\"":[null,true],"\ud83d\ude00":1,"\ufb33":1}')
})

test('a command hash tells verbs and bodies apart; a derived id is the same for the same cause only', () => {
  expect(commandHash('a', { x: 1, y: 2 })).toEqual(commandHash('a', { y: 2, x: 1 }))
  expect(commandHash('a', {})).not.toEqual(commandHash('b', {}))
  expect(derivedCommandId('timer', 'k', 1n)).toBe(derivedCommandId('timer', 'k', 1))
  expect(derivedCommandId('a', 'b')).not.toBe(derivedCommandId('ab'))
  expect(derivedCommandId('a', 'b')).toMatch(/^d[0-9a-f]{32}$/)
})
