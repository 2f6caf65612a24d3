/** What the parts of the snapshotter share; made once at the start and passed in. */

import { randomBytes, randomUUID } from 'node:crypto'
import { type Id, type ImageId, makeId, type SnapshotId } from '#libs/domain'
import type { Database, OnCommitted } from '#libs/event-store'
import type { Messaging } from '#libs/messaging'
import type { Jobs } from '#libs/pool-tasks'
import type { Log } from '#libs/service'
import type { Blobs } from './blobs.js'

export const SNAPSHOTTER = Symbol('snapshotter')

/** Work whose end is an event. */
export type Job =
  | { kind: 'import'; key: string; tenant: string; imageId: ImageId }
  /** A worker that joined after the import lacks a ready image. */
  | { kind: 'replicate'; key: string; tenant: string; imageId: ImageId }
  | { kind: 'snapshot'; key: string; tenant: string; snapshotId: SnapshotId }

export interface Snapshotter {
  db: Database
  messaging: Messaging
  blobs: Blobs
  jobs: Pick<Jobs<Job>, 'begin'>
  onCommitted: OnCommitted
  log: Log
}

export const SERVICE = 'snapshotter'

/** Bodies of its commands hold no secret, so the key of their hashes needs to be no secret either. */
export const HASH_KEY = Buffer.from(SERVICE)

export function newId<P extends string>(prefix: P): Id<P> {
  return makeId(prefix, Date.now(), randomBytes(10))
}

/** For a step that the state machine itself does once, whoever asks for it. */
export function newCommandId(): string {
  return `s${randomUUID()}`
}
