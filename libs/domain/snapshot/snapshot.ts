/**
 *   absent -> requested -> completed
 *                     \-> failed
 *
 * A filesystem snapshot of a running sandbox. Its result is an image, whose id is chosen when it is requested.
 */

import { type Aggregate, type Decided, knownFrom, type PastEvent, type Transition } from '../aggregate.js'
import { Rejected } from '../errors.js'
import type { ImageId, SandboxId, WorkerId } from '../ids.js'

export interface SnapshotRequest {
  sandboxId: SandboxId
  workerId: WorkerId
  epoch: number
  imageId: ImageId
  /** The image that the sandbox was started from. */
  parent: ImageId
}

export type SnapshotEvent =
  | Decided<'SnapshotRequested', SnapshotRequest & { deadlineMs: number }>
  | Decided<'SnapshotCompleted', { imageId: ImageId; tookMs: number }>
  | Decided<'SnapshotFailed', { code: string; message: string }>

export type SnapshotStatus = 'absent' | 'requested' | 'completed' | 'failed'
export type Snapshot =
  | { status: 'absent' }
  | ({ status: Exclude<SnapshotStatus, 'absent'> } & SnapshotRequest)

/** The guest's own sync has 10 s (architecture); the rest is the worker's round trips. */
export const SNAPSHOT_DEADLINE_MS = 60_000

export const SNAPSHOT_TRANSITIONS: readonly Transition<SnapshotStatus>[] = [
  { from: 'absent', event: 'SnapshotRequested', to: 'requested' },
  { from: 'requested', event: 'SnapshotCompleted', to: 'completed' },
  { from: 'requested', event: 'SnapshotFailed', to: 'failed' },
]

export type SnapshotCommand =
  | ({ type: 'RequestSnapshot' } & SnapshotRequest)
  | { type: 'CompleteSnapshot'; tookMs: number }
  | { type: 'FailSnapshot'; code: string; message: string }

/** Returns what happens, `[]` when it is already so. Throws `Rejected` when a rule forbids it. */
export function decideSnapshot(state: Snapshot, command: SnapshotCommand): SnapshotEvent[] {
  if (command.type === 'RequestSnapshot') {
    if (state.status !== 'absent') throw new Rejected('NAME_TAKEN', 'a snapshot with this id exists already')
    const { type: _, ...request } = command
    const data = { ...request, deadlineMs: SNAPSHOT_DEADLINE_MS }
    return [{ type: 'SnapshotRequested', typeVersion: 1, data }]
  }
  if (state.status === 'absent') throw new Rejected('SNAPSHOT_NOT_FOUND', 'no snapshot has this id')
  if (state.status !== 'requested') return []
  if (command.type === 'CompleteSnapshot') {
    const data = { imageId: state.imageId, tookMs: command.tookMs }
    return [{ type: 'SnapshotCompleted', typeVersion: 1, data }]
  }
  return [{ type: 'SnapshotFailed', typeVersion: 1, data: { code: command.code, message: command.message } }]
}

export const snapshotAggregate: Aggregate<Snapshot> = {
  initial: { status: 'absent' },
  evolve: evolveSnapshot,
  knows: knownFrom(SNAPSHOT_TRANSITIONS),
}

export function evolveSnapshot(state: Snapshot, past: PastEvent): Snapshot {
  const event = past as unknown as SnapshotEvent
  switch (event.type) {
    case 'SnapshotRequested': {
      const { deadlineMs: _, ...request } = event.data
      return { status: 'requested', ...request }
    }
    case 'SnapshotCompleted':
      return state.status === 'absent' ? state : { ...state, status: 'completed' }
    case 'SnapshotFailed':
      return state.status === 'absent' ? state : { ...state, status: 'failed' }
    default:
      return state
  }
}
