/** An event as callers see it. Sealed parts never leave the database by this way, only that there is one. */

import type { JsonObject, RecordedEvent } from '#libs/event-store'

export interface EventView {
  /** In the ledger's order; null until the sequencer has placed it, a moment after its commit. */
  position: number | null
  type: string
  /** RFC 3339 in UTC, as the appender gave it. */
  time: string
  actor: string
  commandId: string
  data: JsonObject
  stream: string
  version: number
  typeVersion: number
  eventId: string
  causationId: string | null
  correlationId: string | null
  traceparent: string | null
  workerId: string | null
  epoch: number | null
  hasSealed: boolean
  /** sha256 over the canonical envelope, hex; the next event of the stream builds on it. */
  hash: string
}

export function eventView(event: RecordedEvent): EventView {
  const { meta } = event
  return {
    // A position stays below 2^53 for longer than any installation: 1,000 a second for 285,000 years.
    position: event.position === null ? null : Number(event.position),
    type: event.type,
    time: event.at.toISOString(),
    actor: meta.actor,
    commandId: meta.commandId,
    data: event.data,
    stream: event.stream,
    version: event.version,
    typeVersion: event.typeVersion,
    eventId: event.eventId,
    causationId: meta.causationId,
    correlationId: meta.correlationId,
    traceparent: meta.traceparent,
    workerId: meta.workerId,
    epoch: meta.epoch,
    hasSealed: event.sealed !== null,
    hash: event.hash.toString('hex'),
  }
}

/** The form that an event has on NATS; `position` as text, for JSON readers that have no whole numbers. */
export function messageOf(event: RecordedEvent) {
  const { eventId, stream, version, type, typeVersion, at, data, meta, hash, position } = event
  return {
    position: position === null ? null : String(position),
    eventId,
    stream,
    version,
    type,
    typeVersion,
    at: at.toISOString(),
    data,
    meta,
    hash: hash.toString('hex'),
  }
}
