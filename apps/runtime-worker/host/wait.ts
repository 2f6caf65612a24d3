import { setTimeout as pause } from 'node:timers/promises'

/**
 * Asks again every few milliseconds until the answer is yes. For what the kernel tells nobody: an emptied cgroup,
 * a netns that is being torn down.
 *
 * @returns whether it came true within `timeoutMs`
 */
export async function until(
  condition: () => boolean | Promise<boolean>,
  { timeoutMs, everyMs = 5 }: { timeoutMs: number; everyMs?: number },
): Promise<boolean> {
  const deadline = performance.now() + timeoutMs
  while (!(await condition())) {
    if (performance.now() > deadline) return false
    await pause(everyMs)
  }
  return true
}
