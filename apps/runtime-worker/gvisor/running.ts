/** A live gVisor sandbox, just made or found again. */

import type { AgentSession } from '#libs/agent-client'
import type { SandboxId } from '#libs/domain'
import { killCgroup, oomKillsOf } from '../cgroup/index.js'
import type { Liveness } from '../host/liveness.js'
import type { ProcessIdentity } from '../host/process.js'
import type { MountedVolume, RunningSandbox, RuntimeExit } from '../runtime.js'
import type { GuestSession } from './session.js'

const KILL_MS_MAX = 10_000

export interface RunningGvisorParts {
  sandboxId: SandboxId
  epoch: number
  session: GuestSession
  volumes: MountedVolume[]
  process: ProcessIdentity
  cgroupName: string
  liveness: Liveness
}

export class RunningGvisor implements RunningSandbox {
  readonly sandboxId: SandboxId
  readonly epoch: number
  readonly agent: AgentSession
  readonly volumes: MountedVolume[]
  readonly exited: Promise<RuntimeExit>
  readonly session: GuestSession
  private readonly cgroupName: string
  private readonly liveness: Liveness

  constructor(parts: RunningGvisorParts) {
    this.sandboxId = parts.sandboxId
    this.epoch = parts.epoch
    this.session = parts.session
    this.agent = parts.session.agent
    this.volumes = parts.volumes
    this.cgroupName = parts.cgroupName
    this.liveness = parts.liveness
    this.exited = parts.liveness.untilDead(parts.process).then(() => exitOf(parts.cgroupName))
  }

  async kill(graceMs: number): Promise<void> {
    // Its answer has a deadline of its own, past the grace: the last exits are handed over after the guest's kill.
    // A guest that does not answer is killed all the same.
    if (graceMs > 0) await Promise.race([this.exited, this.agent.shutdown(graceMs).catch(() => {})])
    // What is stuck in the kernel past that is `destroy`'s to report, not something to wait for.
    if (!(await killCgroup(this.cgroupName, KILL_MS_MAX))) return
    this.liveness.look()
    await this.exited
  }
}

/** From the kernel's count of the cgroup, which is there until `destroy`. */
export function exitOf(cgroupName: string): RuntimeExit {
  if (oomKillsOf(cgroupName) > 0) return { kind: 'out-of-memory' }
  return { kind: 'gone', detail: 'the sandbox process has ended' }
}
