/**
 * Puts events of the ledger into EVENTS, in the order of their positions. Each carries its place in the ledger, so
 * that a reader can tell a repetition and a gap; the broker's own sequence numbers mean nothing.
 */

import { jetstream } from '@nats-io/jetstream'
import { type MsgHdrs, headers as natsHeaders } from '@nats-io/transport-node'
import { COMMAND_ID_HEADER, TRACEPARENT_HEADER } from './headers.js'
import { BODY_BYTES_MAX, type JsonObject } from './json.js'
import { type Messaging, transportError } from './messaging.js'
import { EVENTS } from './streams.js'
import { streamOf, subjects } from './subjects.js'

/** What is needed of an event; the event store's `RecordedEvent` has it. */
export interface PublishableEvent {
  eventId: string
  tenant: string
  stream: string
  version: number
  type: string
  typeVersion: number
  at: Date
  data: JsonObject
  meta: { actor: string; commandId: string; traceparent: string | null } & object
  prevHash: Uint8Array
  hash: Uint8Array
  position: bigint | null
}

export const POSITION_HEADER = 'Sandtrail-Position'
export const VERSION_HEADER = 'Sandtrail-Version'
export const HASH_HEADER = 'Sandtrail-Hash'

/** In flight at a time; more gave no higher rate. */
const WINDOW = 256
const PUB_ACK_MS = 5_000

/**
 * Resolves when the broker has acknowledged every one.
 *
 * @throws SandtrailError UNAVAILABLE or DEADLINE_EXCEEDED: some may be in the stream; publish all of them again.
 */
export async function publishEvents(
  messaging: Messaging,
  events: readonly PublishableEvent[],
): Promise<void> {
  const js = jetstream(messaging.connection)
  for (let start = 0; start < events.length; start += WINDOW) {
    const window = events.slice(start, start + WINDOW)
    try {
      await messaging.link.while(PUB_ACK_MS, (timeout) =>
        Promise.all(
          window.map((event) =>
            js.publish(subjectOf(event), bodyOf(event), {
              headers: headersOf(event),
              msgID: event.eventId,
              expect: { streamName: EVENTS },
              timeout,
            }),
          ),
        ),
      )
    } catch (error) {
      throw transportError(error, 'the stream EVENTS')
    }
  }
}

function subjectOf({ tenant, stream, type }: PublishableEvent): string {
  return subjects.event(tenant, stream, type)
}

/** CloudEvents' binary form, and the event's place in stream and ledger. */
function headersOf(event: PublishableEvent): MsgHdrs {
  const result = natsHeaders()
  const set = (name: string, value: string) => result.set(name, encodeURI(value.toWellFormed()))
  set('ce-specversion', '1.0')
  set('ce-id', event.eventId)
  set('ce-source', `/tenants/${event.tenant}`)
  set('ce-type', `sandtrail.${event.type}.v${event.typeVersion}`)
  set('ce-subject', event.stream)
  set('ce-time', event.at.toISOString())
  set('content-type', 'application/json')
  set(POSITION_HEADER, String(event.position))
  set(VERSION_HEADER, String(event.version))
  set(HASH_HEADER, Buffer.from(event.hash).toString('hex'))
  set(COMMAND_ID_HEADER, event.meta.commandId)
  if (event.meta.traceparent) set(TRACEPARENT_HEADER, event.meta.traceparent)
  return result
}

/** Without what is sealed. An event too large for a message goes without its data: `req.events.read` has it. */
function bodyOf(event: PublishableEvent): Uint8Array {
  const { eventId, tenant, stream, version, type, typeVersion, data, meta } = event
  const rest = {
    eventId,
    position: event.position === null ? null : Number(event.position),
    tenant,
    stream,
    aggregate: streamOf(stream).aggregate,
    version,
    type,
    typeVersion,
    at: event.at.toISOString(),
    meta,
    prevHash: Buffer.from(event.prevHash).toString('hex'),
    hash: Buffer.from(event.hash).toString('hex'),
  }
  const whole = Buffer.from(JSON.stringify({ ...rest, data }))
  if (whole.length <= BODY_BYTES_MAX) return whole
  return Buffer.from(JSON.stringify({ ...rest, data: null, dataOmitted: true }))
}
