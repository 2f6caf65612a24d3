import { text } from 'node:stream/consumers'
import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { Harmless } from './harmless.js'

async function through(...chunks: Buffer[]): Promise<string> {
  const filter = new Harmless()
  const result = text(filter)
  for (const chunk of chunks) filter.write(chunk)
  filter.end()
  return await result
}

test.each([
  ['text in any script', 'héllo\twörld ✓ 日本\r\n', 'héllo\twörld ✓ 日本\r\n'],
  ['colours', '\u001b[1;31mred\u001b[0m', '\u001b[1;31mred\u001b[0m'],
  ['the clipboard', 'a\u001b]52;c;ZXZpbA==\u0007b', 'ab'],
  ['a link that lies', '\u001b]8;;https://evil.example\u001b\\click\u001b]8;;\u001b\\', 'click'],
  ['a title', '\u001b]0;root@prod\u0007$', '$'],
  ['questions', '\u001b[c\u001b[6n\u001bP$q"p\u001b\\\u001b[?1$p', ''],
  ['windows and cursor', '\u001b[8;1;1t\u001b[2J\u001b[H\u001bc\u001b(0x', 'x'],
  ['C1 in UTF-8', 'a\u009b31mb\u009d52;c;x\u0007©', 'a31mb52;c;x©'],
  ['a paste that ends', '\u001b[201~id\n', 'id\n'],
  ['bells, backspaces and NUL', 'a\b\u0007\0\u007fb', 'ab'],
  ['a text without end', `x\u001b]${'y'.repeat(1_000)}`, 'x'],
])('%s', async (_, input, output) => {
  expect(await through(Buffer.from(input))).toBe(output)
})

test.each([
  ['a C1 control of eight bits', [0x61, 0x9b, 0x33, 0x31, 0x6d, 0x9d, 0x62], 'a31mb'],
  ['one after a character that was cut short', [0xe6, 0x61, 0x9b, 0x62], '\ufffdab'],
  ['the same byte within a character', [...Buffer.from('ě日')], 'ě日'],
])('%s', async (_, bytes, output) => {
  expect(await through(Buffer.from(bytes))).toBe(output)
})

test('however it is split, what comes out is the same, and drives nothing', async () => {
  const piece = fc.constantFrom(
    '\u001b',
    '[',
    ']',
    '52;c;',
    'm',
    '31',
    '\u0007',
    '\\',
    'é',
    '\u009b',
    'P',
    'x',
    '\n',
    ' ',
  )
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { maxLength: 30 }), fc.nat(60), async (pieces, cut) => {
      const bytes = Buffer.from(pieces.join(''))
      const whole = await through(bytes)
      expect(await through(bytes.subarray(0, cut), bytes.subarray(cut))).toBe(whole)
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
      expect(whole.replaceAll(/\u001b\[[0-9;:]*m/g, '')).not.toMatch(/[^\P{Cc}\t\n\r]/u)
    }),
  )
})
