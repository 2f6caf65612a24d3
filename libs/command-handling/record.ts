import type { Decided } from '#libs/domain'
import type { JsonObject, NewEvent } from '#libs/event-store'

/** Decided events as the store takes them. `sealed` goes with the first: that is the one it belongs to. */
export function record(events: readonly Decided<string, object>[], sealed: Buffer | null = null): NewEvent[] {
  return events.map(({ type, typeVersion, data }, index) => ({
    type,
    typeVersion,
    data: data as JsonObject,
    sealed: index === 0 ? sealed : null,
  }))
}
