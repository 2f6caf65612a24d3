import { expect, test } from '@jest/globals'
import { makeId } from '#libs/domain'
import { Rests } from './rests.js'

const IMAGE = makeId('im', 1, Buffer.alloc(10))
const [A, B] = [makeId('wk', 1, Buffer.alloc(10)), makeId('wk', 2, Buffer.alloc(10))]

test('a pool that failed rests for longer each time, an hour at most, and nobody rests with it', () => {
  let now = 0
  const rests = new Rests(() => now)
  const restOf = () => {
    rests.failed(IMAGE, A)
    const began = now
    while (rests.isResting(IMAGE, A)) now += 60_000
    return (now - began) / 60_000
  }
  expect(Array.from({ length: 9 }, restOf)).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60])
  expect(rests.isResting(IMAGE, B)).toBe(false)
  rests.filled(IMAGE, A)
  expect(restOf()).toBe(1)
})
