/** What the parts of the scheduler share; made once in `main` and passed in. */

import type { Database, OnCommitted, Sealer } from '#libs/event-store'
import type { Messaging } from '#libs/messaging'
import type { Log } from '#libs/service'
import type { TenantGate } from '#libs/tenancy'
import type { ExecWaiters } from './exec-waiters.js'

export const SCHEDULER = Symbol('scheduler')

export interface Scheduler {
  db: Database
  messaging: Messaging
  sealer: Sealer
  /** Keys the hashes of command bodies, see libs/command-handling. */
  hashKey: Buffer
  /** Bounds what a tenant may ask for in a second, and keeps the audit of what was refused. */
  gate: TenantGate
  onCommitted: OnCommitted
  waiters: ExecWaiters
  log: Log
}
