import { setTimeout } from 'node:timers/promises'

/**
 * Waits for a condition; false when it did not hold within `limitMs`.
 *
 * @param {() => boolean | Promise<boolean>} condition
 * @param {number} limitMs
 */
export async function until(condition, limitMs) {
  const end = performance.now() + limitMs
  for (let pauseMs = 5; ; pauseMs = Math.min(pauseMs * 1.5, 100)) {
    if (await condition()) return true
    if (performance.now() > end) return false
    await setTimeout(pauseMs)
  }
}
