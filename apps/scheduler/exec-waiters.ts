/**
 * Callers that wait for an exec's end within the call that started it. Every scheduler hears of every end (a core-NATS
 * subject, best effort); a look at the log once a second stands behind it.
 */

import { type Exec, type ExecId, execAggregate } from '#libs/domain'
import { type Database, load } from '#libs/event-store'

/** The fallback, not the path: the message takes well below a millisecond. */
const LOOK_MS = 1_000
/** Each looks at the log once a second. */
const WAITS_PER_TENANT_MAX = 200

export type EndedExec = Extract<Exec, { status: 'ended' }>

export class ExecWaiters {
  private readonly waiting = new Map<string, Set<(state: EndedExec | null) => void>>()
  private readonly byTenant = new Map<string, number>()
  private closed = false

  constructor(
    private readonly db: Database,
    private readonly perTenantMax = WAITS_PER_TENANT_MAX,
  ) {}

  /** Whoever waits hears at once that it goes on. */
  close(): void {
    this.closed = true
    for (const execId of [...this.waiting.keys()]) this.ended(execId)
  }

  /** Called for each exec whose terminal event has been committed, by whichever scheduler; with the state where it is known. */
  ended(execId: string, state: EndedExec | null = null): void {
    for (const wake of this.waiting.get(execId) ?? []) wake(state)
  }

  /** Resolves with the ended exec, or null after `waitMs`; also when too many of its tenant wait already. */
  async wait(tenant: string, execId: ExecId, waitMs: number): Promise<EndedExec | null> {
    const before = this.byTenant.get(tenant) ?? 0
    if (before >= this.perTenantMax) return null
    this.byTenant.set(tenant, before + 1)
    try {
      return await this.untilEnded(tenant, execId, waitMs)
    } finally {
      const left = this.byTenant.get(tenant)! - 1
      if (left === 0) this.byTenant.delete(tenant)
      else this.byTenant.set(tenant, left)
    }
  }

  private async untilEnded(tenant: string, execId: ExecId, waitMs: number): Promise<EndedExec | null> {
    const deadline = performance.now() + waitMs
    for (;;) {
      const signal = this.next(execId, Math.min(LOOK_MS, Math.max(0, deadline - performance.now())))
      const { state } = await load(this.db, execAggregate, execId, { tenant })
      if (state.status === 'ended') {
        signal.cancel()
        return state
      }
      if (performance.now() >= deadline || this.closed) {
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
