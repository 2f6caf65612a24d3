import { expect, test } from '@jest/globals'
import { wholeCharacters } from './main-stdio.js'

test.each([
  ['', 0, 0],
  ['abc', 0, 3],
  ['aé', 1, 1],
  ['a€', 1, 1],
  ['a€', 2, 1],
  ['a𝄞', 1, 1],
  ['a𝄞', 3, 1],
  ['𝄞', 0, 4],
])('%j without its last %i bytes has %i bytes of whole characters', (text, cut, whole) => {
  const bytes = Buffer.from(text)
  expect(wholeCharacters(bytes.subarray(0, bytes.length - cut))).toBe(whole)
})

test('what is no UTF-8 is not held back', () => {
  expect(wholeCharacters(Buffer.from([0x80, 0x80, 0x80, 0x80]))).toBe(4)
  expect(wholeCharacters(Buffer.from([0x61, 0xff]))).toBe(1)
})
