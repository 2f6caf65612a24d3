/** What every aggregate gives to the event store: where it begins and how one event changes it. */

export type Plain = null | boolean | number | string | Plain[] | { [key: string]: Plain }
export type PlainObject = { [key: string]: Plain }

/** An event as `evolve` sees it: read back from its stream, already upcast. */
export interface PastEvent {
  type: string
  typeVersion: number
  data: PlainObject
  version: number
  /** ms since 1970, as the appender gave it. */
  atMs: number
}

/** An event as `decide` gives it. The edge adds ids, time, actor and hashes. */
export interface Decided<Type extends string = string, Data = PlainObject> {
  type: Type
  typeVersion: number
  data: Data
}

export interface Aggregate<State> {
  initial: State
  /** Never refuses: what is in the log has happened. */
  evolve(state: State, event: PastEvent): State
  knows: KnownEvents
}

/**
 * The newest version of each type of event that this release knows. Another one is of a newer release, in a rolling
 * upgrade or after a step back: whoever meets it stops there, since a state without it would be wrong.
 */
export type KnownEvents = Readonly<Record<string, number>>

export function isKnown(
  events: KnownEvents,
  { type, typeVersion }: { type: string; typeVersion: number },
): boolean {
  return typeVersion <= (Object.hasOwn(events, type) ? events[type]! : 0)
}

/** Version 1 of each event of the table: there is no other yet. */
export function knownFrom(table: readonly { event: string }[]): KnownEvents {
  return Object.fromEntries(table.map(({ event }) => [event, 1]))
}

/** One legal step of a lifecycle; the tables of docs/lifecycles.md are printed from these. */
export interface Transition<Status extends string> {
  from: Status
  event: string
  to: Status
}

/** The state after `event` by the table, or null when the table does not allow it there. */
export function nextStatus<S extends string>(
  table: readonly Transition<S>[],
  from: S,
  event: string,
): S | null {
  return table.find((step) => step.from === from && step.event === event)?.to ?? null
}
