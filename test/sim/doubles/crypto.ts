/** node:crypto with the world's randomness: ids and nonces follow from the seed. */

import * as real from 'node:crypto'
import { currentWorld } from '../world.js'

export * from 'node:crypto'

export function randomBytes(length: number): Buffer {
  return currentWorld()?.random.bytes(length) ?? real.randomBytes(length)
}

export function randomUUID(): string {
  const bytes = randomBytes(16)
  bytes[6] = (bytes[6]! & 0x0f) | 0x40
  bytes[8] = (bytes[8]! & 0x3f) | 0x80
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}
