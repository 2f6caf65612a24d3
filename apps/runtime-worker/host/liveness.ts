/**
 * Notices that a sandbox's process has died. Node has no pidfd, so one timer looks at /proc/<pid>/stat of all sandboxes,
 * some 40 us each on a busy host; the loss of the agent's stream, and a kill, trigger a look at once.
 */

import { isAlive, type ProcessIdentity } from './process.js'

/** An event must follow a death within 5 s; the agent's stream tells of most deaths long before. Of 200 sandboxes: 0.8 % of a core. */
const LOOK_MS = 1_000

export class Liveness {
  private readonly watched = new Map<ProcessIdentity, () => void>()
  private timer: NodeJS.Timeout | null = null

  /** Resolves once the process has died. It never keeps the worker from exiting. */
  untilDead(process: ProcessIdentity): Promise<void> {
    return new Promise((resolve) => {
      this.watched.set(process, resolve)
      this.timer ??= setInterval(() => this.look(), LOOK_MS).unref()
    })
  }

  /** Looks now: for whoever has a reason to think that something died. */
  look(): void {
    for (const [process, tell] of this.watched) {
      if (isAlive(process)) continue
      this.watched.delete(process)
      tell()
    }
    if (this.watched.size === 0) this.stop()
  }

  /** Forgets everything; promises that wait stay pending. */
  stop(): void {
    if (this.timer) clearInterval(this.timer)
    this.timer = null
    this.watched.clear()
  }
}
