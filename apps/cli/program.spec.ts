import { expect, test } from '@jest/globals'
import { words } from './program.js'

test.each([
  [
    ['--', 'ls', '-l'],
    ['ls', '-l'],
  ],
  [
    ['ls', '--', '-x'],
    ['ls', '--', '-x'],
  ],
  [['-odd-name'], ['-odd-name']],
])('the command of %j', (given, command) => expect(words(given)).toEqual(command))

test('options after the sandbox are not taken for the program', () => {
  expect(() => words(['--timeout', '2s', '--', 'sleep', '60'])).toThrow('--timeout stands after the sandbox')
})
