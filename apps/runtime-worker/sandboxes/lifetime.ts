/**
 * How long a sandbox may live and may lie idle, counted on the boot clock from what its journal says. The worker alone
 * keeps both, so a sandbox dies on time while the control plane is away.
 *
 * Not idle is: an open exec, a held connection, a write to stdin. The main process alone does not count.
 */

import type { SandboxSpec } from '#libs/domain'
import { atBootTime, bootMs } from '../boot-clock.js'
import type { Journal } from './journal.js'

export class Lifetime {
  private held = 0
  private lastActivity = 0
  private cancelLifetime: () => void = () => {}
  private cancelIdle: (() => void) | null = null
  private stopped = true

  constructor(
    private readonly spec: Pick<SandboxSpec, 'timeoutMs' | 'idleTimeoutMs'>,
    private readonly journal: Journal,
    private readonly hasOpenExecs: () => boolean,
    private readonly onTimeUp: (reason: 'lifetime' | 'idle') => void,
  ) {}

  /** The journal says since when the sandbox runs, also when an earlier worker process wrote that. */
  start(): void {
    const { runningSince, lastActivity } = this.journal.state
    if (runningSince === null) return
    this.stopped = false
    this.lastActivity = lastActivity ?? runningSince
    this.cancelLifetime = atBootTime(runningSince + this.spec.timeoutMs, () => this.onTimeUp('lifetime'))
    this.armIdle()
  }

  stop(): void {
    this.stopped = true
    this.cancelLifetime()
    this.cancelIdle?.()
    this.cancelIdle = null
  }

  /** Something happened: the idle time begins anew. */
  touch(): void {
    if (this.stopped || this.spec.idleTimeoutMs === null) return
    this.lastActivity = bootMs()
    const journaled = this.journal.state.lastActivity ?? 0
    // Coarse, since it matters only after a restart of the worker.
    if (this.lastActivity - journaled > this.spec.idleTimeoutMs / 10) this.journal.note({ kind: 'activity' })
    this.armIdle()
  }

  /** Counts as activity until the returned function is called. */
  hold(): () => void {
    this.held++
    this.touch()
    let released = false
    return () => {
      if (released) return
      released = true
      this.held--
      this.touch()
    }
  }

  private armIdle(): void {
    if (this.spec.idleTimeoutMs === null || this.cancelIdle !== null || this.stopped) return
    this.cancelIdle = atBootTime(this.lastActivity + this.spec.idleTimeoutMs, () => {
      this.cancelIdle = null
      this.checkIdle(this.spec.idleTimeoutMs!)
    })
  }

  private checkIdle(idleTimeoutMs: number): void {
    // What keeps it busy now calls `touch` at its end.
    if (this.held > 0 || this.hasOpenExecs()) return
    if (bootMs() - this.lastActivity >= idleTimeoutMs) this.onTimeUp('idle')
    else this.armIdle()
  }
}
