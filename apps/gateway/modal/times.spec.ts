import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { makeId } from '#libs/domain'
import { firstIdAt, timeIn } from './times.js'

const nearNow = fc
  .tuple(
    fc.integer({ min: 1_790_000_000_000, max: 1_800_000_000_000 }),
    fc.uint8Array({ minLength: 10, maxLength: 10 }),
  )
  .map(([at, random]) => makeId('sb', at, random))

test('a page that begins at the time of a sandbox leaves it out, and nothing that is older', () => {
  fc.assert(
    fc.property(nearNow, nearNow, (one, other) => {
      const [older, newer] = one < other ? [one, other] : [other, one]
      expect(newer >= firstIdAt(timeIn(newer))).toBe(true)
      if (timeIn(older) < timeIn(newer)) expect(older < firstIdAt(timeIn(newer))).toBe(true)
    }),
  )
})

test('two sandboxes of one millisecond have different times', () => {
  const [one, other] = [1, 2].map((first) =>
    makeId('sb', 1_795_000_000_000, Uint8Array.of(first, 0, 0, 0, 0, 0, 0, 0, 0, 0)),
  )
  expect(timeIn(one!)).toBeLessThan(timeIn(other!))
})
