/**
 *   absent -> importing -> ready -> removed
 *         \            \-> failed
 *          \-> ready                 (from a snapshot, which exists already when its image is recorded)
 *
 * An image is a read-only subvolume; `replicas` says in which workers' pools it lies.
 */

import { type Aggregate, type Decided, knownFrom, type PastEvent, type Transition } from '../aggregate.js'
import { Rejected } from '../errors.js'
import type { ImageId, SandboxId, SnapshotId, WorkerId } from '../ids.js'

/** What a command of the image does when it does not say; from the imported tarball there is none. */
export interface ImageConfig {
  env: Record<string, string>
  workdir: string | null
}

export type ImageSource =
  | { kind: 'import'; sha256: string; bytes: number }
  | { kind: 'snapshot'; snapshotId: SnapshotId; sandboxId: SandboxId; parent: ImageId }

export type ImageEvent =
  | Decided<
      'ImageImportRequested',
      { name: string; source: ImageSource & { kind: 'import' }; deadlineMs: number }
    >
  /** The image lies in this worker's pool. */
  | Decided<'ImageReplicated', { workerId: WorkerId }>
  /** Every pool that was to be filled is; `digest` names the content: sha256 of the imported tarball. */
  | Decided<'ImageReady', { digest: string }>
  | Decided<'ImageFailed', { code: string; message: string }>
  | Decided<'ImageCreatedFromSnapshot', { source: ImageSource & { kind: 'snapshot' }; workerId: WorkerId }>
  | Decided<'ImageRemoved', Record<string, never>>

export type ImageStatus = 'absent' | 'importing' | 'ready' | 'failed' | 'removed'

export type Image =
  | { status: 'absent' }
  | { status: Exclude<ImageStatus, 'absent'>; name: string | null; source: ImageSource; replicas: WorkerId[] }

/** An import of a large root takes minutes; after this it is failed and its half-made subvolumes removed. */
export const IMAGE_IMPORT_DEADLINE_MS = 900_000

export const IMAGE_TRANSITIONS: readonly Transition<ImageStatus>[] = [
  { from: 'absent', event: 'ImageImportRequested', to: 'importing' },
  { from: 'absent', event: 'ImageCreatedFromSnapshot', to: 'ready' },
  { from: 'importing', event: 'ImageReplicated', to: 'importing' },
  { from: 'importing', event: 'ImageReady', to: 'ready' },
  { from: 'importing', event: 'ImageFailed', to: 'failed' },
  { from: 'importing', event: 'ImageRemoved', to: 'removed' },
  // A worker that joined later gets the image too.
  { from: 'ready', event: 'ImageReplicated', to: 'ready' },
  { from: 'ready', event: 'ImageRemoved', to: 'removed' },
]

export type ImageCommand =
  | { type: 'ImportImage'; name: string; sha256: string; bytes: number }
  | { type: 'ReportReplicated'; workerId: WorkerId }
  | { type: 'CompleteImport' }
  | { type: 'FailImport'; code: string; message: string }
  | { type: 'RecordSnapshotImage'; source: ImageSource & { kind: 'snapshot' }; workerId: WorkerId }
  | { type: 'RemoveImage' }

/** Returns what happens, `[]` when it is already so. Throws `Rejected` when a rule forbids it. */
export function decideImage(state: Image, command: ImageCommand): ImageEvent[] {
  switch (command.type) {
    case 'ImportImage': {
      if (state.status !== 'absent') throw new Rejected('NAME_TAKEN', 'an image with this id exists already')
      const source = { kind: 'import' as const, sha256: command.sha256, bytes: command.bytes }
      const data = { name: command.name, source, deadlineMs: IMAGE_IMPORT_DEADLINE_MS }
      return [{ type: 'ImageImportRequested', typeVersion: 1, data }]
    }
    case 'RecordSnapshotImage': {
      if (state.status !== 'absent') return []
      const { source, workerId } = command
      return [{ type: 'ImageCreatedFromSnapshot', typeVersion: 1, data: { source, workerId } }]
    }
    case 'ReportReplicated': {
      const image = existing(state)
      if (image.status !== 'importing' && image.status !== 'ready') return []
      if (image.replicas.includes(command.workerId)) return []
      return [{ type: 'ImageReplicated', typeVersion: 1, data: { workerId: command.workerId } }]
    }
    case 'CompleteImport': {
      const image = existing(state)
      if (image.status !== 'importing' || image.source.kind !== 'import') return []
      if (image.replicas.length === 0) {
        throw new Rejected('IMAGE_NOT_READY', 'an image without a replica cannot be ready')
      }
      return [{ type: 'ImageReady', typeVersion: 1, data: { digest: `sha256:${image.source.sha256}` } }]
    }
    case 'FailImport': {
      if (existing(state).status !== 'importing') return []
      const { code, message } = command
      return [{ type: 'ImageFailed', typeVersion: 1, data: { code, message } }]
    }
    case 'RemoveImage': {
      const { status } = existing(state)
      if (status === 'removed' || status === 'failed') return []
      return [{ type: 'ImageRemoved', typeVersion: 1, data: {} }]
    }
  }
}

function existing(state: Image): Exclude<Image, { status: 'absent' }> {
  if (state.status === 'absent') throw new Rejected('IMAGE_NOT_FOUND', 'no image has this id')
  return state
}

export const imageAggregate: Aggregate<Image> = {
  initial: { status: 'absent' },
  evolve: evolveImage,
  knows: knownFrom(IMAGE_TRANSITIONS),
}

export function evolveImage(state: Image, past: PastEvent): Image {
  const event = past as unknown as ImageEvent
  if (event.type === 'ImageImportRequested') {
    return { status: 'importing', name: event.data.name, source: event.data.source, replicas: [] }
  }
  if (event.type === 'ImageCreatedFromSnapshot') {
    return { status: 'ready', name: null, source: event.data.source, replicas: [event.data.workerId] }
  }
  if (state.status === 'absent') return state
  switch (event.type) {
    case 'ImageReplicated':
      return { ...state, replicas: [...state.replicas, event.data.workerId] }
    case 'ImageReady':
      return { ...state, status: 'ready' }
    case 'ImageFailed':
      return { ...state, status: 'failed' }
    case 'ImageRemoved':
      return { ...state, status: 'removed' }
  }
}
