/** Given events, when a command, then events: the specs of every aggregate are written with this. Tests only. */

import type { Aggregate, Decided, PastEvent, PlainObject } from './aggregate.js'
import { Rejected } from './errors.js'

/** The events as they would be read back, versions 1..n. */
export function past(events: readonly Decided<string, object>[]): PastEvent[] {
  return events.map((event, index) => ({
    type: event.type,
    typeVersion: event.typeVersion,
    data: event.data as PlainObject,
    version: index + 1,
    atMs: 1_790_000_000_000 + index,
  }))
}

export function fold<S>({ initial, evolve }: Aggregate<S>, events: readonly Decided<string, object>[]): S {
  return past(events).reduce(evolve, initial)
}

/** What a decision gives: its events' types and data, or the code of its refusal. */
export function outcomeOf<E>(run: () => E[]): E[] | string {
  try {
    return run()
  } catch (error) {
    if (error instanceof Rejected) return error.code
    throw error
  }
}
