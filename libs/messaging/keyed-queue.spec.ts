import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { KeyedQueue } from './keyed-queue.js'

test('whatever the durations: every task runs once, in order within its key, never more than allowed at a time', async () => {
  const plan = fc.array(fc.record({ key: fc.constantFrom('a', 'b', 'c', null), turns: fc.nat(5) }), {
    maxLength: 60,
  })
  await fc.assert(
    fc.asyncProperty(plan, fc.integer({ min: 1, max: 4 }), async (tasks, concurrency) => {
      const queue = new KeyedQueue(concurrency)
      const ended: number[] = []
      let running = 0
      let most = 0
      tasks.forEach(({ key, turns }, n) => {
        queue.add(key, async () => {
          most = Math.max(most, ++running)
          for (let turn = 0; turn < turns; turn++) await Promise.resolve()
          running--
          ended.push(n)
        })
      })
      await queue.below(1)
      expect(ended.toSorted((a, b) => a - b)).toEqual(tasks.map((_, n) => n))
      for (const key of ['a', 'b', 'c']) {
        const ofKey = ended.filter((n) => tasks[n]!.key === key)
        expect(ofKey).toEqual(ofKey.toSorted((a, b) => a - b))
      }
      expect(most).toBeLessThanOrEqual(concurrency)
      expect(queue.held).toBe(0)
    }),
  )
})

test('a reader waits until there is room', async () => {
  const queue = new KeyedQueue(1)
  const release = Promise.withResolvers<void>()
  queue.add('a', () => release.promise)
  let hasRoom = false
  const room = queue.below(1).then(() => {
    hasRoom = true
  })
  await Promise.resolve()
  expect(hasRoom).toBe(false)
  release.resolve()
  await room
})
