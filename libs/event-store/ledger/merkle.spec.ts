import { createHash } from 'node:crypto'
import { expect, test } from '@jest/globals'
import { MerkleFrontier } from './merkle.js'

/** RFC 6962, section 2.1, word by word. */
function mth(entries: string[]): Buffer {
  const sha = (...parts: (Buffer | string)[]) => {
    const hash = createHash('sha256')
    for (const part of parts) hash.update(part)
    return hash.digest()
  }
  if (entries.length === 0) return sha()
  if (entries.length === 1) return sha(Buffer.from([0]), entries[0] as string)
  let k = 1
  while (k * 2 < entries.length) k *= 2
  return sha(Buffer.from([1]), mth(entries.slice(0, k)), mth(entries.slice(k)))
}

test('the root equals the definition of RFC 6962 for every size up to 70', () => {
  const frontier = new MerkleFrontier()
  const entries: string[] = []
  expect(frontier.root()).toEqual(mth([]))
  for (let i = 0; i < 70; i++) {
    entries.push(`entry ${i}`)
    frontier.append(`entry ${i}`)
    expect(frontier.root()).toEqual(mth(entries))
    expect(frontier.size).toBe(entries.length)
  }
})

test('goes on from a kept frontier as if it had never stopped', () => {
  const whole = new MerkleFrontier()
  for (let i = 0; i < 13; i++) whole.append(`${i}`)
  const half = new MerkleFrontier()
  for (let i = 0; i < 7; i++) half.append(`${i}`)
  const resumed = new MerkleFrontier(half.size, half.roots)
  for (let i = 7; i < 13; i++) resumed.append(`${i}`)
  expect(resumed.root()).toEqual(whole.root())
})
