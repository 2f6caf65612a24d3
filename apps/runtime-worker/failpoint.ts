/**
 * Named places where a test kills this process, as `kill -9` would. Inert unless SANDTRAIL_FAILPOINT names one:
 * `name` dies at the first pass, `name:3` at the third.
 */

const [target, nth] = (process.env.SANDTRAIL_FAILPOINT ?? '').split(':')
const dieAt = Number(nth ?? 1)
let passes = 0

/** Ends the process here, without any clean-up, when the environment asks for it. */
export function failpoint(name: string): void {
  if (name !== target) return
  passes++
  if (passes === dieAt) process.kill(process.pid, 'SIGKILL')
}
