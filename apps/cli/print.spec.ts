import { expect, test } from '@jest/globals'
import { remotePlace } from './commands/cp.js'
import { ago, layOut, plain } from './print.js'
import { summarize } from './summary.js'

test('columns are as wide as their widest cell', () => {
  expect(
    layOut([
      ['A', 'B'],
      ['long', 'x'],
    ]),
  ).toEqual(['A     B', 'long  x'])
})

test('a line is cut at the width of the terminal', () => {
  expect(layOut([['abcdef', 'ghijkl']], 8)).toEqual(['abcdef …'])
})

test('what others named cannot drive the terminal', () => {
  expect(plain('a\u001b[31mred\u0007')).toBe('a\\x1b[31mred\\x07')
})

test('times are told as how long ago', () => {
  const now = new Date('2026-01-31T12:00:00Z')
  expect(ago('2026-01-31T11:59:30Z', now)).toBe('30s ago')
  expect(ago('2026-01-31T10:00:00Z', now)).toBe('2h ago')
  expect(ago(null, now)).toBe('-')
})

test('an event is told in a few words, one of another version by its type alone', () => {
  expect(summarize({ type: 'ExecExited', data: { exitCode: 3, reason: 'exit' } })).toBe('exit code 3')
  expect(summarize({ type: 'SandboxCreated', data: {} })).toBe('')
  expect(summarize({ type: 'Unknown', data: {} })).toBe('')
})

test('a place in a sandbox is told from a local path', () => {
  expect(remotePlace('web:/etc/hosts')).toEqual({ sandbox: 'web', path: '/etc/hosts' })
  expect(remotePlace('./a:b')).toBeNull()
  expect(remotePlace('/tmp/x')).toBeNull()
  expect(() => remotePlace('web:etc')).toThrow('absolute')
})
