/** The shapes of the event store: what is written in one transaction, and what is read back. */

import type { Excess } from '#libs/domain'

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json }
export type JsonObject = { [key: string]: Json }

/** An event that a decision wants to be recorded. `sealed`: ciphertext made by `Sealer.seal`. */
export interface NewEvent {
  type: string
  typeVersion: number
  data: JsonObject
  sealed?: Buffer | null
}

/** Who and what caused an event. Every key is always present in the hashed envelope. */
export interface EventMeta {
  /** `token:<id>`, `nats:<tenant>`, `worker:<id>`, `system:<service>`. */
  actor: string
  commandId: string
  causationId: string | null
  correlationId: string | null
  traceparent: string | null
  workerId: string | null
  epoch: number | null
  /**
   * What the append did beside its events, on the first of them, so that it is hashed and `verify` can replay it.
   * Written by `append`.
   */
  effects: Effects | null
}

/** See docs/adr/0003-effects-in-meta.md. A key is absent where nothing was done. */
export type Effects = {
  live?: Json
  claims?: Json
  reservation?: Json
  execSlot?: Json
}

/** An event as it stands in the database. `position` is null until the sequencer has placed it. */
export interface RecordedEvent {
  eventId: string
  tenant: string
  stream: string
  version: number
  type: string
  typeVersion: number
  at: Date
  data: JsonObject
  sealed: Buffer | null
  meta: EventMeta
  prevHash: Buffer
  hash: Buffer
  position: bigint | null
}

export interface StreamWrite {
  stream: string
  /** The version that the decision was made on; 0 for a stream that must not exist yet. */
  expectedVersion: number
  /** Of the event of that version, from whoever has loaded it; looked up otherwise. */
  prevHash?: Buffer | null
  events: NewEvent[]
}

export interface CommandRef {
  /** Made by the caller; unique within the tenant. */
  id: string
  /** `sandbox.create`; part of the hash that tells a re-send from a re-used id. */
  verb: string
  /** sha256 over verb and canonical body, made by `commandHash`. */
  hash: Buffer
  expiresAt: Date
}

export interface Claim {
  kind: string
  key: string
  /** The stream that holds the claim. */
  holder: string
}

export interface TimerToSet {
  /** Unique over all timers; setting it again moves it. */
  key: string
  /** Milliseconds from the append, counted by the database's clock. */
  afterMs: number
  kind: string
  payload: JsonObject
}

export interface Resources {
  cpuMillis: number
  memoryBytes: number
  diskBytes: number
}

export interface TimerRef {
  key: string
  generation: bigint
}

/** What an append does to the sandbox's `live` row; it is the fence that a stream's version cannot be. */
export type LiveChange =
  /** Placement: the row appears, with this worker and epoch. Fenced when the sandbox has one already. */
  | { action: 'open'; sandboxId: string; workerId: string; epoch: number }
  /** Exec appends and facts: `FOR SHARE`. With `open: true` the sandbox must not be ending. */
  | { action: 'require'; sandboxId: string; workerId?: string; epoch?: number; open: boolean }
  /** A stop was asked for: no new exec from here on. */
  | { action: 'closing'; sandboxId: string }
  /** The terminal event: the row goes. With an epoch given, a stale one is fenced. */
  | { action: 'close'; sandboxId: string; workerId?: string; epoch?: number }

/** What a worker's capacity and a tenant's quota lose or get back, in the append's transaction. */
export type ReservationChange =
  | { action: 'take'; sandboxId: string; workerId: string; resources: Resources }
  | { action: 'release'; sandboxId: string }

/** What a tenant's quota of open execs loses or gets back, in the append's transaction. */
export interface ExecSlotChange {
  action: 'take' | 'release'
  execId: string
}

/** Everything that one accepted command writes. One transaction, a fixed lock order. */
export interface AppendRequest {
  tenant: string
  command: CommandRef
  /** Stored with the command's row and given again for each re-send. */
  outcome: JsonObject
  meta: Omit<EventMeta, 'commandId' | 'effects'>
  /** Given by the appender, part of the hashed envelope. */
  at: Date
  writes: StreamWrite[]
  timers?: {
    set?: TimerToSet[]
    cancel?: string[]
    /** By a timer's handler: removes exactly the setting that it was given, not a newer one under the same key. */
    consume?: TimerRef[]
  }
  /** `require`: held by its holder until the commit, shared with others that require it; else a conflict. */
  claims?: { take?: Claim[]; release?: Claim[]; require?: Claim[] }
  /** A volume that no live sandbox mounts, judged when its claim is given up: none can come between. Else a conflict. */
  unmounted?: { volumeId: string }
  reservation?: ReservationChange
  execSlot?: ExecSlotChange
  live?: LiveChange
}

export type AppendResult =
  | { outcome: 'appended'; versions: Record<string, number> }
  /** This command id was decided before: its stored outcome, rejections included. */
  | { outcome: 'duplicate'; stored: JsonObject }
  | { outcome: 'id-reused' }
  | { outcome: 'expired' }
  /** Another append won the stream's version: decide again on fresh state. */
  | { outcome: 'conflict'; stream: string }
  | { outcome: 'claim-taken'; claim: Claim }
  | { outcome: 'no-capacity'; of: 'worker' }
  | { outcome: 'no-capacity'; of: 'tenant'; excess: Excess }
  | { outcome: 'fenced'; reason: 'absent' | 'epoch' | 'closing' }
