/** What the parts of the snapshotter share; made once at the start and passed in. */

import { randomUUID } from 'node:crypto'
import { systemCommandOf } from '#libs/command-handling'
import type { ImageId, SnapshotId } from '#libs/domain'
import type { Database, OnCommitted } from '#libs/event-store'
import type { Messaging } from '#libs/messaging'
import type { Jobs } from '#libs/pool-tasks'
import type { Log } from '#libs/service'
import type { TenantGate } from '#libs/tenancy'
import type { Blobs } from './blobs.js'
import type { Rests } from './rests.js'

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
  rests: Rests
  /** Keys the hashes of command bodies; they hold no secrets here, so it need not be one. */
  hashKey: Buffer
  /** Bounds what a tenant may ask for in a second, and keeps the audit of what was refused. */
  gate: TenantGate
  onCommitted: OnCommitted
  log: Log
}

export const SERVICE = 'snapshotter'

export const systemCommand = systemCommandOf(`system:${SERVICE}`)

/** For a step that the state machine itself does once, whoever asks for it. */
export function newCommandId(): string {
  return `s${randomUUID()}`
}
