/**
 * Buffers lie outside V8's heap, and V8 looks for dead ones only after some 64 MiB of them: an exec that prints a
 * gigabyte would grow the worker by that. A collection of the young generation after every 8 MiB that pass through
 * takes about a millisecond and keeps the growth at a few buffers (data-plane.int.spec.ts measures it).
 */

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

const COLLECT_BYTES = 8 * 1024 ** 2

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as (options: { type: 'minor' }) => void
let passed = 0

/** Tells that so many bytes of buffers have just become, or will soon be, of no use. */
export function passedBuffers(bytes: number): void {
  passed += bytes
  if (passed < COLLECT_BYTES) return
  passed = 0
  collect({ type: 'minor' })
}
