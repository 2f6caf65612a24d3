/**
 * Work that goes on until the log says that it is over. It is begun when its command is accepted, and found again by
 * `scan` after a crash, or when it failed: nothing about it is kept in memory alone. Two processes may be at the same
 * job: its steps are idempotent.
 */

export interface JobsOptions<Job extends { key: string }> {
  /** What the log knows to be unfinished. */
  scan(): Promise<Job[]>
  /** One try. A rejection is logged, and the next scan begins the job again. */
  run(job: Job, signal: AbortSignal): Promise<void>
  onError(error: unknown, job?: Job): void
}

const SCAN_MS = 2_000

export class Jobs<Job extends { key: string }> {
  private readonly active = new Map<string, Promise<void>>()
  private readonly stopping = new AbortController()
  private timer: NodeJS.Timeout | undefined
  private scanning: Promise<void> = Promise.resolve()

  constructor(private readonly options: JobsOptions<Job>) {}

  start(): void {
    if (this.stopping.signal.aborted) return
    this.scanning = this.look()
    void this.scanning.then(() => {
      if (!this.stopping.signal.aborted) this.timer = setTimeout(() => this.start(), SCAN_MS)
    })
  }

  /** Lets go of all jobs: the next process goes on with them. */
  async stop(): Promise<void> {
    this.stopping.abort()
    clearTimeout(this.timer)
    await this.scanning
    await Promise.all(this.active.values())
  }

  /** Begins it, unless it is going on. */
  begin(job: Job): void {
    if (this.active.has(job.key) || this.stopping.signal.aborted) return
    const work = this.options
      .run(job, this.stopping.signal)
      .catch((error) => {
        if (!this.stopping.signal.aborted) this.options.onError(error, job)
      })
      .finally(() => this.active.delete(job.key))
    this.active.set(job.key, work)
  }

  private async look(): Promise<void> {
    try {
      for (const job of await this.options.scan()) this.begin(job)
    } catch (error) {
      this.options.onError(error)
    }
  }
}
