/** What the parts of the volume-syncer share; made once at start and passed in. */

import type { Database, OnCommitted, TimerLoop } from '#libs/event-store'
import type { Messaging } from '#libs/messaging'
import type { Log } from '#libs/service'
import type { TenantGate } from '#libs/tenancy'

export const VOLUME_SYNCER = Symbol('volume-syncer')

export interface VolumeSyncer {
  db: Database
  messaging: Messaging
  /** Keys the hashes of command bodies; they hold no secrets here, so it need not be one. */
  hashKey: Buffer
  /** Bounds what a tenant may ask for in a second, and keeps the audit of what was refused. */
  gate: TenantGate
  onCommitted: OnCommitted
  /** Drives commits that are under way; nudged after each append that set one of its timers. */
  timers: TimerLoop
  log: Log
}
