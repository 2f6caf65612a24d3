/** Work that is woken by a nudge, with a slow poll behind it: a nudge may be lost, a poll never is. */

export interface LoopOptions {
  /** Pause after a step that found nothing more to do; a function where the next step's time is known. */
  pollMs: number | (() => number)
  /** A step that threw is tried again after a growing pause; this hears of it. */
  onError?: (error: unknown) => void
}

/** Pauses after failures double from the first to the second figure: a restart of Postgres takes seconds. */
const FAILURE_PAUSE_MS = [100, 5_000] as const

/** Runs one `step` at a time, at once again while it resolves to true (there is more). `start` and `stop` may be repeated. */
export class Loop {
  private running: Promise<void> | null = null
  private stopping = false
  private nudged = false
  /** After a failure: a storm of nudges must not become a storm of failures. */
  private resting = false
  private wake: (() => void) | null = null

  constructor(
    private readonly step: () => Promise<boolean>,
    private readonly options: LoopOptions,
  ) {}

  start(): void {
    if (this.running !== null) return
    this.stopping = false
    this.running = this.run()
  }

  /** Resolves when the step in flight has ended. */
  async stop(): Promise<void> {
    this.stopping = true
    this.wake?.()
    await this.running
    this.running = null
  }

  /** The next step begins at once, or after the one in flight; after the pause that follows a failure. */
  nudge(): void {
    this.nudged = true
    if (!this.resting) this.wake?.()
  }

  private async run(): Promise<void> {
    let failures = 0
    while (!this.stopping) {
      this.nudged = false
      let pauseMs: number
      try {
        const more = await this.step()
        failures = 0
        if (more) continue
        const { pollMs } = this.options
        pauseMs = typeof pollMs === 'number' ? pollMs : pollMs()
      } catch (error) {
        this.options.onError?.(error)
        const [first, most] = FAILURE_PAUSE_MS
        pauseMs = Math.min(first * 2 ** failures++, most)
        this.resting = true
      }
      if (!this.stopping && (this.resting || !this.nudged)) await this.pause(pauseMs)
      this.resting = false
    }
  }

  private pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        this.wake = null
        resolve()
      }
      const timer = setTimeout(done, ms)
      this.wake = done
    })
  }
}
