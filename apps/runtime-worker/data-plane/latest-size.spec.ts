import { expect, test } from '@jest/globals'
import { LatestSize, type Size } from './latest-size.js'

/** An agent that answers each message when it is told to. */
function slowAgent() {
  const got: { key: string; size: Size; answer: PromiseWithResolvers<void> }[] = []
  const sizes = new LatestSize<string>((key, size) => {
    const answer = Promise.withResolvers<void>()
    got.push({ key, size, answer })
    return answer.promise
  })
  return { got, sizes }
}
const rows = (count: number): Size => ({ rows: count, cols: 80 })
const turn = () => new Promise((resolve) => setImmediate(resolve))

test('a storm on one exec is two messages, the first and the newest, and another exec is not held up', async () => {
  const { got, sizes } = slowAgent()
  const storm = Array.from({ length: 10_000 }, (_, i) => sizes.set('ex-1', rows(i + 1)))
  const other = sizes.set('ex-2', rows(5))
  expect(got.map(({ key, size }) => [key, size.rows])).toEqual([
    ['ex-1', 1],
    ['ex-2', 5],
  ])
  got[1]!.answer.resolve()
  await other
  got[0]!.answer.resolve()
  await turn()
  expect(got[2]).toMatchObject({ key: 'ex-1', size: rows(10_000) })
  got[2]!.answer.resolve()
  await Promise.all(storm)
  expect(got).toHaveLength(3)
})

test('a size that was refused does not take the next one with it', async () => {
  const { got, sizes } = slowAgent()
  const first = sizes.set('ex-1', rows(1))
  const second = sizes.set('ex-1', rows(2))
  got[0]!.answer.reject(new Error('ended'))
  await expect(first).rejects.toThrow('ended')
  await turn()
  got[1]!.answer.resolve()
  await second
  const third = sizes.set('ex-1', rows(3))
  got[2]!.answer.resolve()
  await third
})
