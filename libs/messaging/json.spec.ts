import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { BODY_BYTES_MAX, BODY_DEPTH_MAX, decodeBody, encodeBody } from './json.js'

const bytes = (text: string) => new TextEncoder().encode(text)
const nested = (levels: number) => `${'{"a":'.repeat(levels)}1${'}'.repeat(levels)}`
const code = (run: () => unknown) => {
  try {
    run()
  } catch (error) {
    return (error as { code: string }).code
  }
  return 'none'
}

test('what was encoded is decoded to the same', () => {
  // A key "__proto__" is refused at any depth; the next tests are about that.
  const body = fc
    .dictionary(fc.string({ unit: 'grapheme' }), fc.jsonValue({ maxDepth: 5 }))
    .filter((value) => !JSON.stringify(value).includes('"__proto__"'))
  fc.assert(
    fc.property(body, (value) => {
      // JSON has one zero, and `{}` of JSON.parse has the usual prototype.
      const plain = JSON.parse(JSON.stringify(value))
      expect(decodeBody(encodeBody(value))).toEqual(plain)
    }),
  )
})

test('any bytes give a body or a coded refusal, never another error', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (input) => {
      expect(['none', 'INVALID_ARGUMENT']).toContain(code(() => decodeBody(input)))
    }),
  )
})

test('the deepest body allowed passes, one level more does not', () => {
  expect(code(() => decodeBody(bytes(nested(BODY_DEPTH_MAX))))).toBe('none')
  expect(code(() => decodeBody(bytes(nested(BODY_DEPTH_MAX + 1))))).toBe('INVALID_ARGUMENT')
  expect(code(() => encodeBody(JSON.parse(nested(BODY_DEPTH_MAX + 1))))).toBe('INVALID_ARGUMENT')
})

test('a million opening brackets are refused without being parsed', () => {
  expect(code(() => decodeBody(bytes('['.repeat(1_000_000))))).toBe('INVALID_ARGUMENT')
})

test('brackets within strings are no levels', () => {
  expect(decodeBody(bytes(JSON.stringify({ a: `\\"${'['.repeat(500)}` })))).toHaveProperty('a')
})

test('the largest body allowed passes, one byte more does not', () => {
  const fill = (size: number) => bytes(`{"a":"${'x'.repeat(size - 8)}"}`)
  expect(code(() => decodeBody(fill(BODY_BYTES_MAX)))).toBe('none')
  expect(code(() => decodeBody(fill(BODY_BYTES_MAX + 1)))).toBe('PAYLOAD_TOO_LARGE')
  expect(code(() => encodeBody({ a: 'ü'.repeat(BODY_BYTES_MAX / 2) }))).toBe('PAYLOAD_TOO_LARGE')
})

test('no body changes a prototype, wherever it hides the key', () => {
  for (const text of ['{"__proto__":{"a":1}}', '{"a":[{"\\u005f_proto__":1}]}']) {
    expect(code(() => decodeBody(bytes(text)))).toBe('INVALID_ARGUMENT')
  }
})

test('an empty message is an empty body', () => {
  expect(decodeBody(new Uint8Array())).toEqual({})
})

test('what has no JSON form is refused', () => {
  const circle: { self?: object } = {}
  circle.self = circle
  for (const body of [circle, { big: 1n }, [1], () => {}]) {
    expect(code(() => encodeBody(body))).toBe('INVALID_ARGUMENT')
  }
})
