/**
 *   absent -> ready -> removed
 *
 * A named volume lives in the pool of its home worker, which puts its commits in order and numbers them;
 * the stream records each version. Version 0 is empty. Commits in flight are in `pending`.
 */

import { type Aggregate, type Decided, knownFrom, type PastEvent, type Transition } from '../aggregate.js'
import { Rejected } from '../errors.js'
import type { SandboxId, WorkerId } from '../ids.js'

/** One version as the home worker's log has it. Commits of two writers merge by path, the last commit wins. */
export interface VolumeVersion {
  version: number
  commitId: string
  sandboxId: SandboxId
  /** The version on which the writer's content was based. */
  base: number
  changedPaths: number
  /** Paths that a commit since `base` had changed too, and this one overwrote or deleted. Sorted. */
  overwritten: string[]
  /** How many there are: a list of more than 10,000 is cut. */
  overwrittenTotal: number
}

export type VolumeEvent =
  | Decided<'VolumeCreated', { name: string; workerId: WorkerId }>
  | Decided<'VolumeCommitRequested', { commitId: string; sandboxId: SandboxId; deadlineMs: number }>
  | Decided<'VolumeCommitted', VolumeVersion & { trigger: 'commit' | 'sandbox-end' }>
  | Decided<'VolumeCommitFailed', { commitId: string; code: string; message: string }>
  | Decided<'VolumeReloaded', { sandboxId: SandboxId; fromVersion: number; toVersion: number }>
  | Decided<'VolumeRemoved', Record<string, never>>

export type VolumeStatus = 'absent' | 'ready' | 'removed'
export type Volume =
  | { status: 'absent' }
  | {
      status: 'ready' | 'removed'
      name: string
      workerId: WorkerId
      version: number
      pending: { commitId: string; sandboxId: SandboxId }[]
    }

/** The guest's sync has 10 s, a merge walks two trees; a commit that takes longer is failed and its copy removed. */
export const VOLUME_COMMIT_DEADLINE_MS = 120_000

export const VOLUME_TRANSITIONS: readonly Transition<VolumeStatus>[] = [
  { from: 'absent', event: 'VolumeCreated', to: 'ready' },
  ...['VolumeCommitRequested', 'VolumeCommitted', 'VolumeCommitFailed', 'VolumeReloaded'].map((event) => ({
    from: 'ready' as const,
    event,
    to: 'ready' as const,
  })),
  { from: 'ready', event: 'VolumeRemoved', to: 'removed' },
]

export type VolumeCommand =
  | { type: 'CreateVolume'; name: string; workerId: WorkerId }
  | { type: 'RequestCommit'; commitId: string; sandboxId: SandboxId }
  /** Entries of the home worker's log, oldest first; those that the stream has already are skipped. */
  | { type: 'RecordVersions'; versions: (VolumeVersion & { trigger: 'commit' | 'sandbox-end' })[] }
  /** `wasStaged`: at a sandbox's end, which requests nothing; asked for once by its sender. */
  | { type: 'FailCommit'; commitId: string; code: string; message: string; wasStaged: boolean }
  | { type: 'RecordReload'; sandboxId: SandboxId; fromVersion: number; toVersion: number }
  | { type: 'RemoveVolume' }

/** Returns what happens, `[]` when it is already so. Throws `Rejected` when a rule forbids it. */
export function decideVolume(state: Volume, command: VolumeCommand): VolumeEvent[] {
  if (command.type === 'CreateVolume') {
    if (state.status !== 'absent') throw new Rejected('NAME_TAKEN', 'a volume with this id exists already')
    const { name, workerId } = command
    return [{ type: 'VolumeCreated', typeVersion: 1, data: { name, workerId } }]
  }
  if (state.status === 'absent') throw new Rejected('VOLUME_NOT_FOUND', 'no volume has this id')
  if (state.status === 'removed') {
    if (command.type === 'RemoveVolume') return []
    throw new Rejected('VOLUME_NOT_FOUND', `volume ${state.name} has been removed`)
  }
  switch (command.type) {
    case 'RequestCommit': {
      const { commitId, sandboxId } = command
      if (state.pending.some((commit) => commit.commitId === commitId)) return []
      const data = { commitId, sandboxId, deadlineMs: VOLUME_COMMIT_DEADLINE_MS }
      return [{ type: 'VolumeCommitRequested', typeVersion: 1, data }]
    }
    case 'RecordVersions':
      return recordVersions(state.version, command.versions)
    case 'FailCommit': {
      const { commitId, code, message, wasStaged } = command
      if (!wasStaged && !state.pending.some((commit) => commit.commitId === commitId)) return []
      return [{ type: 'VolumeCommitFailed', typeVersion: 1, data: { commitId, code, message } }]
    }
    case 'RecordReload': {
      const { type: _, ...data } = command
      return [{ type: 'VolumeReloaded', typeVersion: 1, data }]
    }
    case 'RemoveVolume':
      return [{ type: 'VolumeRemoved', typeVersion: 1, data: {} }]
  }
}

function recordVersions(
  known: number,
  versions: Extract<VolumeCommand, { type: 'RecordVersions' }>['versions'],
): VolumeEvent[] {
  const fresh = versions.filter(({ version }) => version > known)
  fresh.forEach(({ version }, index) => {
    if (version !== known + 1 + index) {
      throw new Rejected('INVALID_ARGUMENT', `version ${version} does not follow ${known + index}`)
    }
  })
  return fresh.map((version) => ({ type: 'VolumeCommitted', typeVersion: 1, data: version }))
}

export const volumeAggregate: Aggregate<Volume> = {
  initial: { status: 'absent' },
  evolve: evolveVolume,
  knows: knownFrom(VOLUME_TRANSITIONS),
}

export function evolveVolume(state: Volume, past: PastEvent): Volume {
  const event = past as unknown as VolumeEvent
  if (event.type === 'VolumeCreated') {
    return { status: 'ready', ...event.data, version: 0, pending: [] }
  }
  if (state.status === 'absent') return state
  switch (event.type) {
    case 'VolumeCommitRequested': {
      const { commitId, sandboxId } = event.data
      return { ...state, pending: [...state.pending, { commitId, sandboxId }] }
    }
    case 'VolumeCommitted':
      return { ...state, version: event.data.version, pending: without(state.pending, event.data.commitId) }
    case 'VolumeCommitFailed':
      return { ...state, pending: without(state.pending, event.data.commitId) }
    case 'VolumeReloaded':
      return state
    case 'VolumeRemoved':
      return { ...state, status: 'removed' }
  }
}

function without<T extends { commitId: string }>(pending: T[], commitId: string): T[] {
  return pending.filter((commit) => commit.commitId !== commitId)
}
