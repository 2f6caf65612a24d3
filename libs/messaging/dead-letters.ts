/** Where a queued command goes that cannot be handled: kept for a week as it came, with the reason. */

import { type JsMsg, jetstream } from '@nats-io/jetstream'
import { headers as natsHeaders } from '@nats-io/transport-node'
import { Rejected, SandtrailError } from '#libs/domain'
import type { Messaging } from './messaging.js'
import { DEAD_LETTERS } from './streams.js'
import { subjects } from './subjects.js'

export const DEAD_REASON_HEADER = 'Sandtrail-Dead-Reason'
export const DEAD_SUBJECT_HEADER = 'Sandtrail-Dead-Subject'
export const DEAD_DELIVERIES_HEADER = 'Sandtrail-Dead-Deliveries'
export const DEAD_AT_HEADER = 'Sandtrail-Dead-At'

const PUB_ACK_MS = 5_000

/** Resolves when DEAD_LETTERS has it. Doing it twice within two minutes keeps it once. */
export async function buryMessage(messaging: Messaging, message: JsMsg, error: unknown): Promise<void> {
  const headers = natsHeaders()
  for (const [name, values] of message.headers ?? []) {
    // The broker's own headers are instructions to it (expectations, roll-up), which must not be followed here.
    if (/^nats-/i.test(name)) continue
    for (const value of values) headers.append(name, value)
  }
  headers.set(DEAD_SUBJECT_HEADER, message.subject)
  headers.set(DEAD_REASON_HEADER, reasonOf(error))
  headers.set(DEAD_DELIVERIES_HEADER, String(message.info.deliveryCount))
  headers.set(DEAD_AT_HEADER, new Date().toISOString())
  await messaging.link.while(PUB_ACK_MS, (timeout) =>
    jetstream(messaging.connection).publish(subjects.dead(message.subject), message.data, {
      headers,
      msgID: `dead-${message.info.streamSequence}-${message.timestampNanos}`,
      expect: { streamName: DEAD_LETTERS },
      timeout,
    }),
  )
}

/** A coded error's text is made to be shown; another's may hold secrets, so its kind alone is told. */
function reasonOf(error: unknown): string {
  const isCoded = error instanceof Rejected || error instanceof SandtrailError
  const text = isCoded ? `${error.code}: ${error.message}` : error instanceof Error ? error.name : 'unknown'
  return text
    .toWellFormed()
    .replaceAll(/[^\x20-\x7e]/g, '?')
    .slice(0, 500)
}
