import { createHash, randomBytes } from 'node:crypto'
import { expect, test } from '@jest/globals'
import { Sha256 } from './sha256.js'

const native = (data: Buffer) => createHash('sha256').update(data).digest('hex')

for (const length of [0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 100_001]) {
  test(`${length} bytes hash as Node's own does`, () => {
    const data = randomBytes(length)
    expect(new Sha256().update(data).digest()).toBe(native(data))
  })
}

test('any split of the bytes gives the same digest', () => {
  const data = randomBytes(1000)
  for (const cut of [1, 63, 64, 65, 500]) {
    const hash = new Sha256().update(data.subarray(0, cut)).update(data.subarray(cut))
    expect(hash.digest()).toBe(native(data))
  }
})

test('a kept state goes on where it was', () => {
  const data = randomBytes(1000)
  const state = JSON.parse(JSON.stringify(new Sha256().update(data.subarray(0, 640)).save()))
  expect(new Sha256(state).update(data.subarray(640)).digest()).toBe(native(data))
})
