import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { makeId } from '#libs/domain'
import { sandboxIdFor, sandboxIdFrom, sandboxIdOfTask, taskIdFor } from './ids.js'

const anyId = fc
  .tuple(fc.nat(2 ** 48 - 1), fc.uint8Array({ minLength: 10, maxLength: 10 }))
  .map(([at, random]) => makeId('sb', at, random))

test('both generations name the same sandbox', () => {
  fc.assert(
    fc.property(anyId, (id) => {
      expect(sandboxIdFor(1, id)).toMatch(/^sb-[0-9A-Za-z]{22}$/)
      expect(sandboxIdFor(2, id)).toBe(id)
      for (const generation of [1, 2] as const) {
        expect(sandboxIdFrom(sandboxIdFor(generation, id))).toBe(id)
        expect(sandboxIdOfTask(taskIdFor(generation, id))).toBe(id)
      }
    }),
  )
})

test('the largest id and the smallest survive', () => {
  for (const id of [
    makeId('sb', 2 ** 48 - 1, new Uint8Array(10).fill(255)),
    makeId('sb', 0, new Uint8Array(10)),
  ]) {
    expect(sandboxIdFrom(sandboxIdFor(1, id))).toBe(id)
  }
})

test.each(['', 'sb-', 'sb-x', 'im-01J', `sb-${'z'.repeat(22)}`, `sb-${'é'.repeat(22)}`, 'sb-../../etc'])(
  '%j is no sandbox',
  (text) => {
    expect(() => sandboxIdFrom(text)).toThrow('no sandbox has the id')
  },
)

test.each(['', 'ta-', 'ta-V', 'sb-01ARZ3NDEKTSV4RRFFQ69G5FAV', 'ta-01ARZ3NDEKTSV4RRFFQ69G5FAVX'])(
  '%j is no task',
  (text) => {
    expect(() => sandboxIdOfTask(text)).toThrow('no task has the id')
  },
)
