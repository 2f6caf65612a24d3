/**
 * Runs of tasks. Whoever asks again while a run is in flight joins it; a run that takes long is answered `pending` and
 * goes on. The result is handed out once and then forgotten: asked for later, the task runs again and finds its work
 * done, because every task is idempotent by its ids.
 */

import type { TaskReply, TaskResult } from '#libs/contract'

/** Below the requester's own timeout. */
const PENDING_AFTER_MS = 20_000
/** A result that nobody fetched. */
const KEPT_MS = 600_000

export class TaskRuns {
  private readonly runs = new Map<string, Promise<TaskResult>>()

  constructor(private readonly pendingAfterMs: number = PENDING_AFTER_MS) {}

  /** @throws what `work` throws, to everyone who waits for it. */
  async join(key: string, work: () => Promise<TaskResult>): Promise<TaskReply> {
    const run = this.runs.get(key) ?? this.begin(key, work)
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<null>((resolve) => {
      timer = setTimeout(resolve, this.pendingAfterMs, null)
    })
    try {
      const result = await Promise.race([run, late])
      if (result === null) return { ok: true, pending: true }
      this.forget(key, run)
      return { ok: true, pending: false, result }
    } catch (error) {
      this.forget(key, run)
      throw error
    } finally {
      clearTimeout(timer)
    }
  }

  /** Resolves when nothing runs any more. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.runs.values())
  }

  private begin(key: string, work: () => Promise<TaskResult>): Promise<TaskResult> {
    const run = work()
    this.runs.set(key, run)
    const keep = () => void setTimeout(() => this.forget(key, run), KEPT_MS).unref()
    run.then(keep, keep)
    return run
  }

  private forget(key: string, run: Promise<TaskResult>): void {
    if (this.runs.get(key) === run) this.runs.delete(key)
  }
}
