/**
 * Callers that wait for an exec's end within the call that started it. Every scheduler hears of every end (a core-NATS
 * subject, best effort); a look at the log once a second stands behind it.
 */

import { type Exec, type ExecId, execAggregate } from '#libs/domain'
import { type Database, load } from '#libs/event-store'

/** The fallback, not the path: the message takes well below a millisecond. */
const LOOK_MS = 1_000

export type EndedExec = Extract<Exec, { status: 'ended' }>

export class ExecWaiters {
  private readonly waiting = new Map<string, Set<(state: EndedExec | null) => void>>()

  constructor(private readonly db: Database) {}

  /** Called for each exec whose terminal event has been committed, by whichever scheduler; with the state where it is known. */
  ended(execId: string, state: EndedExec | null = null): void {
    for (const wake of this.waiting.get(execId) ?? []) wake(state)
  }

  /** Resolves with the ended exec, or null after `waitMs`. */
  async wait(tenant: string, execId: ExecId, waitMs: number): Promise<EndedExec | null> {
    const deadline = performance.now() + waitMs
    for (;;) {
      const signal = this.next(execId, Math.min(LOOK_MS, Math.max(0, deadline - performance.now())))
      const { state } = await load(this.db, execAggregate, execId, { tenant })
      if (state.status === 'ended') {
        signal.cancel()
        return state
      }
      if (performance.now() >= deadline) {
        signal.cancel()
        return null
      }
      const told = await signal.woken
      if (told !== null) return told
    }
  }

  private next(execId: string, timeoutMs: number): { woken: Promise<EndedExec | null>; cancel: () => void } {
    let wake = (_: EndedExec | null) => {}
    const woken = new Promise<EndedExec | null>((resolve) => {
      const wakers = this.waiting.get(execId) ?? new Set()
      const timer = setTimeout(() => wake(null), timeoutMs)
      wake = (state) => {
        clearTimeout(timer)
        wakers.delete(wake)
        if (wakers.size === 0) this.waiting.delete(execId)
        resolve(state)
      }
      this.waiting.set(execId, wakers.add(wake))
    })
    return { woken, cancel: () => wake(null) }
  }
}
