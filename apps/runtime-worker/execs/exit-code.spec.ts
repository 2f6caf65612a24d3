import { expect, test } from '@jest/globals'
import { outcomeOf } from './exit-code.js'

const calm = { timedOut: false, sandboxEnding: false }

test('a process keeps its own code, also when its time ran out at that moment', () => {
  expect(outcomeOf({ code: 3, signal: null }, calm)).toEqual({ exitCode: 3, signal: null, reason: 'exit' })
  expect(outcomeOf({ code: 0, signal: null }, { ...calm, timedOut: true }).reason).toBe('exit')
})

test('a signal gives 128 and its number', () => {
  expect(outcomeOf({ code: null, signal: 15 }, calm)).toEqual({ exitCode: 143, signal: 15, reason: 'signal' })
})

test('the kill at the end of its time gives 124', () => {
  const outcome = outcomeOf({ code: null, signal: 9 }, { ...calm, timedOut: true })
  expect(outcome).toEqual({ exitCode: 124, signal: 9, reason: 'timeout' })
})

test('the kill at the end of its sandbox gives 137 and says so', () => {
  const outcome = outcomeOf({ code: null, signal: 9 }, { ...calm, sandboxEnding: true })
  expect(outcome).toEqual({ exitCode: 137, signal: 9, reason: 'sandbox-ended' })
})
