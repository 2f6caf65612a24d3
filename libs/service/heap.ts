/**
 * V8 counts buffers outside its heap toward a limit that follows the heap's size, and a service's heap is small: bytes
 * that pass through made it collect everything after each 4 MiB (61 times for 256 MiB of an exec's output, two thirds
 * of the worker's time). With room for twice what is alive, it does so once or twice.
 */

import { setFlagsFromString } from 'node:v8'

const GROWING_PERCENT = 200

export function giveHeapRoom(): void {
  setFlagsFromString(`--heap-growing-percent=${GROWING_PERCENT}`)
}
