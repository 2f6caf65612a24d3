/** What tasks need of a sandbox of this worker, and the two things that they do with it. */

import type { AgentSession } from '#libs/agent-client'
import { type ErrorCode, Rejected, type SandboxId, SandtrailError, type VolumeId } from '#libs/domain'

/** The registry's `Sandbox` is one. */
export interface LiveSandbox {
  readonly epoch: number
  readonly state: string
  readonly running: { readonly agent: Pick<AgentSession, 'sync' | 'bind'> } | null
  readonly spec: {
    readonly volumes: readonly { volumeId: VolumeId; path: string; readOnly: boolean }[]
  } | null
  readonly journal: {
    readonly state: { readonly slots: ReadonlyMap<VolumeId, string> }
    append(entry: { kind: 'slot'; volumeId: VolumeId; slot: string }): void
    sync(): Promise<void>
  }
  lock<T>(work: () => Promise<T>): Promise<T>
}

export interface LiveSandboxes {
  get(sandboxId: SandboxId): LiveSandbox | undefined
}

/** Of the guest's own cached writes; source: the architecture's promise for snapshots. */
const SYNC_MS_MAX = 10_000

/** @throws Rejected SANDBOX_NOT_RUNNING, also for another epoch. */
export function expectRunning(
  sandboxes: LiveSandboxes,
  sandboxId: SandboxId,
  epoch?: number,
): LiveSandbox & { running: NonNullable<LiveSandbox['running']> } {
  const sandbox = sandboxes.get(sandboxId)
  if (sandbox?.running && sandbox.state === 'running' && (epoch === undefined || sandbox.epoch === epoch)) {
    return sandbox as LiveSandbox & { running: NonNullable<LiveSandbox['running']> }
  }
  throw new Rejected('SANDBOX_NOT_RUNNING', `${sandboxId} does not run here`)
}

/** @throws SandtrailError `code`, not to be tried again: the caller decides whether to ask anew. */
export async function syncGuest(
  { running }: LiveSandbox & { running: NonNullable<LiveSandbox['running']> },
  code: ErrorCode,
): Promise<void> {
  try {
    await running.agent.sync(SYNC_MS_MAX)
  } catch (cause) {
    const message = `the guest did not write out what it holds within ${SYNC_MS_MAX / 1000} s`
    throw new SandtrailError(code, message, { retryable: false, cause })
  }
}
