import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from '@jest/globals'
import { SandtrailError } from '#libs/domain'
import { AgentWatch } from './agent-watch.js'

const TIMING = { everyMs: 1, answerMs: 1 }

/** An agent that answers a question by `answers[n]`; after the last of them the test is over. */
function watched(answers: boolean[], isNeeded = () => true) {
  let asked = 0
  const over = Promise.withResolvers<'silent' | 'answered'>()
  const agent = {
    async ping() {
      const answer = answers[asked++]
      if (answer === undefined) over.resolve('answered')
      if (answer === false) throw new SandtrailError('AGENT_UNREACHABLE', 'no answer')
    },
  }
  const watch = new AgentWatch(agent, isNeeded, () => over.resolve('silent'), TIMING)
  watch.start()
  return { watch, over: over.promise, asked: () => asked }
}

test('three questions in a row without an answer are silence', async () => {
  const { over, asked } = watched([true, false, false, false])
  expect(await over).toBe('silent')
  expect(asked()).toBe(4)
})

test('an answer in between makes the count begin anew', async () => {
  const { over, watch } = watched([false, false, true, false, false, true])
  expect(await over).toBe('answered')
  watch.stop()
})

test('nobody is asked while nothing runs, and missed answers of before do not count', async () => {
  let needed = 0
  const { over, watch, asked } = watched([false, false, true], () => ++needed > 4 || needed < 3)
  expect(await over).toBe('answered')
  expect(asked()).toBe(4)
  watch.stop()
})

test('a watch that is stopped says nothing', async () => {
  const { over, watch } = watched([false, false, false])
  watch.stop()
  expect(await Promise.race([over, delay(50)])).toBeUndefined()
})
