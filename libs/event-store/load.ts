/** Folds a stream into its state. Old versions of events are brought up to date on the way. */

import { isKnown, type KnownEvents } from '#libs/domain'
import type { Queryable } from './database.js'
import { readStream } from './read.js'
import type { EventMeta, JsonObject, RecordedEvent } from './types.js'
import { unknownEvent } from './unknown-event.js'

/** An event as `evolve` gets it; it fits the domain's `PastEvent`. */
export interface StoredEvent {
  type: string
  typeVersion: number
  data: JsonObject
  stream: string
  version: number
  at: Date
  atMs: number
  sealed: Buffer | null
  meta: EventMeta
  position: bigint | null
}

/** Turns the data of one version of a type into that of the next. */
export type Upcast = (data: JsonObject, event: RecordedEvent) => JsonObject
/** `upcasts['SandboxCreated'][1]` makes version 2 out of version 1. */
export type Upcasts = Record<string, Record<number, Upcast>>

export interface Foldable<State> {
  initial: State
  evolve(state: State, event: StoredEvent): State
  upcasts?: Upcasts
  /** All, when absent. */
  knows?: KnownEvents
}

export interface Loaded<State> {
  state: State
  /** Of the newest event that is in the state; 0 for a stream that does not exist. */
  version: number
  /** Of that event: what the next one is chained to. */
  hash: Buffer | null
}

/** Events per query: a long stream is folded in pages of this many. */
const PAGE = 1000

/**
 * The state of a stream, as it is, as it was at a version, or as it was at a moment (by the events' `at`).
 * With a `tenant`, another tenant's stream looks like one that does not exist.
 *
 * @throws SandtrailError UNAVAILABLE at an event that `knows` does not have: nobody decides on half a state.
 */
export async function load<State>(
  db: Queryable,
  aggregate: Foldable<State>,
  stream: string,
  until: { version?: number; at?: Date; tenant?: string } = {},
): Promise<Loaded<State>> {
  let state = aggregate.initial
  let version = 0
  let hash: Buffer | null = null
  for (;;) {
    const page = await readStream(db, stream, { fromVersion: version + 1, limit: PAGE })
    for (const event of page) {
      if (until.tenant !== undefined && event.tenant !== until.tenant)
        return { state: aggregate.initial, version: 0, hash: null }
      if (until.version !== undefined && event.version > until.version) return { state, version, hash }
      if (until.at !== undefined && event.at > until.at) return { state, version, hash }
      const current = upcast(event, aggregate.upcasts)
      if (aggregate.knows && !isKnown(aggregate.knows, current)) throw unknownEvent(event)
      state = aggregate.evolve(state, current)
      version = event.version
      hash = event.hash
    }
    if (page.length < PAGE) return { state, version, hash }
  }
}

/** The event in the newest version of its type that `upcasts` lead to. */
export function upcast(event: RecordedEvent, upcasts: Upcasts = {}): StoredEvent {
  let { data, typeVersion } = event
  for (;;) {
    const step = upcasts[event.type]?.[typeVersion]
    if (step === undefined) break
    data = step(data, event)
    typeVersion += 1
  }
  const { type, stream, version, at, sealed, meta, position } = event
  return { type, typeVersion, data, stream, version, at, atMs: at.getTime(), sealed, meta, position }
}
