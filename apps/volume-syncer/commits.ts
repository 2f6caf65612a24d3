/**
 * Commits under way. Each has a durable timer from the moment that it is wanted until its version is recorded, so that
 * a crash of the syncer, or a worker that is away, only delays it.
 *
 *   `commit`       asked for: from a running sandbox's mount; fails after its deadline
 *   `sandbox-end`  staged by the worker at the sandbox's end: tried for ever, for it must not be lost, unless the worker
 *                  says that it can never be put after the newest version; its copy stays in the pool
 */

import { handleCommand, record } from '#libs/command-handling'
import {
  decideVolume,
  isId,
  Rejected,
  type SandboxId,
  SandtrailError,
  toErrorBody,
  VOLUME_COMMIT_DEADLINE_MS,
  type VolumeId,
} from '#libs/domain'
import { derivedCommandId, type FiredTimer, type TimerToSet } from '#libs/event-store'
import { failpoint } from '#libs/failpoint'
import { askWorker } from '#libs/pool-tasks'
import type { VolumeSyncer } from './context.js'
import { systemCommand } from './system-command.js'
import { recordVersions } from './versions.js'
import { loadVolume } from './volumes.js'

export const COMMIT_TIMER = 'volume-commit'

/** Less than the lease of a timer's handler; a longer merge is asked for again, and joined. */
const HANDLING_MS = 25_000

interface PendingCommit {
  volumeId: VolumeId
  commitId: string
  /** Null when the content is staged already. */
  sandboxId: SandboxId | null
  /** ms since 1970; null: never. */
  deadlineAt: number | null
}

/** Fires at once. */
export function commitTimer(volumeId: VolumeId, commitId: string, sandboxId: SandboxId | null): TimerToSet {
  const deadlineAt = sandboxId === null ? null : Date.now() + VOLUME_COMMIT_DEADLINE_MS
  const payload = { volumeId, commitId, sandboxId, deadlineAt }
  return { key: `${volumeId}:commit:${commitId}`, afterMs: 0, kind: COMMIT_TIMER, payload }
}

/** Throws for what may pass: the timer comes back. */
export async function driveCommit(syncer: VolumeSyncer, { tenant, payload }: FiredTimer): Promise<void> {
  const commit = payload as unknown as PendingCommit
  const { volumeId, commitId, sandboxId, deadlineAt } = commit
  if (!isId('vo', volumeId)) throw new Error(`a timer names no volume: ${volumeId}`)
  try {
    const { state } = await loadVolume(syncer, tenant, volumeId)
    if (state.status === 'removed') return
    const asked = { kind: 'commit-volume' as const, tenant, volumeId, commitId, sandboxId }
    // A reply holds as many versions as fit into a message; the commit's own is among the last of them.
    const options = { signal: AbortSignal.timeout(HANDLING_MS), patienceMs: 0 }
    for (let afterVersion = state.version; ; ) {
      const task = { ...asked, afterVersion }
      const { versions } = await askWorker<'commit-volume'>(syncer.messaging, state.workerId, task, options)
      failpoint('commit-answered')
      await recordVersions(syncer, tenant, volumeId, versions)
      failpoint('commit-recorded')
      const last = versions.at(-1)
      if (last === undefined || versions.some((version) => version.commitId === commitId)) return
      afterVersion = last.version
    }
  } catch (error) {
    const late = deadlineAt !== null && Date.now() > deadlineAt
    if (!(late || isFinal(error, sandboxId === null))) throw error
    await failCommit(syncer, tenant, commit, error)
  }
}

/** Nobody can ask again for what is staged, so a full pool, or a bug of ours, is waited out. */
function isFinal(error: unknown, wasStaged: boolean): boolean {
  if (!(error instanceof Rejected || error instanceof SandtrailError)) return false
  if (wasStaged) return error.code === 'INVALID_ARGUMENT' || error.code === 'NOT_FOUND'
  return error instanceof Rejected || !error.retryable
}

async function failCommit(
  syncer: VolumeSyncer,
  tenant: string,
  { volumeId, commitId, sandboxId }: PendingCommit,
  reason: unknown,
): Promise<void> {
  const wasStaged = sandboxId === null
  const { code, message } = toErrorBody(reason)
  const id = derivedCommandId('volume-commit-failed', volumeId, commitId)
  await handleCommand(syncer, systemCommand(tenant, 'volume.fail-commit', id, { volumeId }), async () => {
    const { state, version } = await loadVolume(syncer, tenant, volumeId)
    const events = decideVolume(state, { type: 'FailCommit', commitId, code, message, wasStaged })
    return {
      outcome: { volumeId },
      writes: [{ stream: volumeId, expectedVersion: version, events: record(events) }],
    }
  })
}
