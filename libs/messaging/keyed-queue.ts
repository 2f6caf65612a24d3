/**
 * Runs tasks at most `concurrency` at a time, those of one key one after the other in the order of their coming.
 *
 *   add -> waits for its key -> waits for a slot -> runs
 */

export class KeyedQueue {
  /** The last task of each key that is not done yet. */
  private readonly tails = new Map<string, Promise<void>>()
  private readonly waiting: (() => void)[] = []
  private running = 0
  private count = 0
  private changed = Promise.withResolvers<void>()

  constructor(private readonly concurrency: number) {}

  /** Tasks that wait or run. */
  get held(): number {
    return this.count
  }

  /** `task` must not throw: who adds it handles its errors. `key` null: no order wanted. */
  add(key: string | null, task: () => Promise<void>): void {
    this.count++
    const before = key === null ? undefined : this.tails.get(key)
    const done = (before ?? Promise.resolve()).then(() => this.inSlot(task))
    if (key !== null) this.tails.set(key, done)
    void done.finally(() => {
      if (key !== null && this.tails.get(key) === done) this.tails.delete(key)
      this.count--
      this.changed.resolve()
      this.changed = Promise.withResolvers()
    })
  }

  /** Resolves when fewer than `limit` tasks are held: how a reader is slowed to the pace of the handlers. */
  async below(limit: number): Promise<void> {
    while (this.count >= limit) await this.changed.promise
  }

  private async inSlot(task: () => Promise<void>): Promise<void> {
    // A slot is handed on, not freed and raced for, so `running` never exceeds the limit.
    if (this.running >= this.concurrency) await new Promise<void>((resolve) => this.waiting.push(resolve))
    else this.running++
    try {
      await task()
    } finally {
      const next = this.waiting.shift()
      if (next) next()
      else this.running--
    }
  }
}
