/**
 * One lease per worker, renewed by its heartbeat. It ends after a whole grace of silence, counted on this process's
 * monotonic clock, and only while it can itself hear and commit: after an outage of the control plane every worker
 * gets a fresh grace. A lease's end makes no worker kill anything.
 */

import type { SandboxId } from '#libs/domain'
import { listStranded, listWorkers, loseWorker, type Worker } from '#libs/event-store'
import { failpoint } from '#libs/failpoint'
import type { Scheduler } from './context.js'
import { declareLost } from './lost-sandboxes.js'

const LOOK_MS = 2_000
const HEARING_MS = 1_000
const SLEPT_MS = 5 * LOOK_MS

export class Leases {
  /** When the newest heartbeat of each worker was first seen here, on the monotonic clock. */
  private readonly seen = new Map<string, { heartbeat: number; sinceMs: number }>()
  private timer: NodeJS.Timeout | undefined
  private lastLookMs = performance.now()
  private hearingSinceMs = performance.now()
  private stopped = false

  constructor(
    private readonly scheduler: Scheduler,
    private readonly graceMs: number,
  ) {}

  start(): void {
    this.timer = setTimeout(() => void this.loop(), LOOK_MS)
  }

  stop(): void {
    this.stopped = true
    clearTimeout(this.timer)
  }

  /** For how long this process has been able to hear and to commit, on its monotonic clock. */
  get hearingForMs(): number {
    const now = performance.now()
    // A look that is overdue: it slept, or the database does not answer. The next one will tell.
    return now - this.lastLookMs > SLEPT_MS ? 0 : now - this.hearingSinceMs
  }

  private async loop(): Promise<void> {
    try {
      await this.look()
    } catch (error) {
      this.forget()
      this.scheduler.log.warn({ err: error }, 'cannot look at the leases, every worker gets a fresh grace')
    }
    if (!this.stopped) this.start()
  }

  /** One look at every lease. */
  async look(): Promise<void> {
    // This process itself slept (SIGSTOP, a suspended host): what it did not hear in that time counts for nothing.
    const now = performance.now()
    if (now - this.lastLookMs > SLEPT_MS || !(await this.canHear())) this.forget()
    this.lastLookMs = now

    const { db, log } = this.scheduler
    for (const worker of await listWorkers(db)) {
      const { workerId, heartbeatAt } = worker
      if (worker.state === 'lost' || !this.isSilent(worker, now)) continue
      if (!(await loseWorker(db, workerId, heartbeatAt))) continue
      failpoint('worker-lost')
      log.warn({ workerId, graceMs: this.graceMs }, 'worker lost')
    }
    await this.declareStranded()
  }

  /** At each look, not only when a worker is lost: a crash, or trouble with one sandbox, leaves the rest to the next. */
  private async declareStranded(): Promise<void> {
    const { db, log } = this.scheduler
    for (const { sandboxId, tenant, epoch } of await listStranded(db)) {
      const reason = `its worker was silent for ${this.graceMs / 1000} s`
      const lost = { sandboxId: sandboxId as SandboxId, tenant, epoch, reason }
      await declareLost(this.scheduler, lost).catch((err) =>
        log.warn({ err, sandboxId }, 'the loss of a sandbox is not recorded yet'),
      )
    }
  }

  /** The broker answers: what a worker says now would reach us. */
  private async canHear(): Promise<boolean> {
    const answered = this.scheduler.messaging.connection.rtt().then(
      () => true,
      () => false,
    )
    const late = new Promise<boolean>((resolve) => setTimeout(resolve, HEARING_MS, false).unref())
    return Promise.race([answered, late])
  }

  private isSilent({ workerId, heartbeatAt }: Worker, now: number): boolean {
    const known = this.seen.get(workerId)
    if (known?.heartbeat === heartbeatAt.getTime()) return now - known.sinceMs > this.graceMs
    this.seen.set(workerId, { heartbeat: heartbeatAt.getTime(), sinceMs: now })
    return false
  }

  private forget(): void {
    this.seen.clear()
    this.hearingSinceMs = performance.now()
  }
}
