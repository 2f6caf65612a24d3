/**
 * What becomes of one delivery of a queued command.
 *
 *   handled                         -> acknowledged, and the broker says that it knows
 *   trouble that may pass           -> again later, until the command has expired; then dead
 *   any other error                 -> again later, at most `deliveriesMax` times in all; then dead
 *   cannot be read, or Rejected     -> dead at once: it would be no better next time
 *
 * Dead: kept in DEAD_LETTERS, then taken from the queue; the sender hears the error on `out.<commandId>`.
 * A command that a rule refuses is handled, not dead: its handler records the rejection and returns.
 */

import type { JsMsg } from '@nats-io/jetstream'
import { Rejected, SandtrailError, toErrorBody } from '#libs/domain'
import { contextOf, type MessageContext } from './context.js'
import { buryMessage } from './dead-letters.js'
import { plain } from './headers.js'
import { invoke } from './invoke.js'
import { decodeBody, type JsonObject } from './json.js'
import type { Messaging } from './messaging.js'
import type { CommandPattern, Handler } from './patterns.js'

/** A delivery that was read. `unreadable`: why its body or headers could not be. */
export interface Delivery {
  message: JsMsg
  context: MessageContext | null
  body: JsonObject
  unreadable: Rejected | null
}

const DELIVERIES_MAX = 5
const BACKOFF_FIRST_MS = 500
const BACKOFF_MS_MAX = 60_000
const ACK_MS = 5_000

export function readDelivery(message: JsMsg): Delivery {
  let context: MessageContext | null = null
  try {
    context = contextOf(plain(message), message.info.deliveryCount)
    return { message, context, body: decodeBody(message.data), unreadable: null }
  } catch (error) {
    if (!(error instanceof Rejected)) throw error
    return { message, context, body: {}, unreadable: error }
  }
}

/** Runs the handler and settles the message. Never throws: what goes wrong is logged, and the message comes again. */
export async function settle(
  messaging: Messaging,
  { message, context, body, unreadable }: Delivery,
  pattern: CommandPattern,
  handler: Handler,
): Promise<void> {
  const deliveries = message.info.deliveryCount
  const fields = { subject: message.subject, commandId: context?.commandId ?? null, deliveries }
  try {
    try {
      if (unreadable) throw unreadable
      await invoke(handler, body, context!)
    } catch (err) {
      if (!isDead(err, deliveries, pattern, context)) {
        messaging.log.warn({ err, ...fields }, 'a queued command failed, it comes again')
        message.nak(backoffMs(deliveries))
        return
      }
      messaging.log.error({ err, ...fields }, 'a queued command is dead')
      await buryMessage(messaging, message, err)
      tellSender(messaging, context, err)
    }
    // The handler's effect, or the dead letter, is safe by now.
    await messaging.link.while(ACK_MS, (timeout) => message.ackAck({ timeout }))
  } catch (err) {
    messaging.log.warn({ err, ...fields }, 'a queued command could not be acknowledged, it comes again')
  }
}

/** Doubles from half a second to a minute; with a spread, so that a crowd that failed together does not return so. */
export function backoffMs(deliveries: number): number {
  const full = Math.min(BACKOFF_MS_MAX, BACKOFF_FIRST_MS * 2 ** Math.min(deliveries - 1, 20))
  return Math.round(full * (0.8 + 0.2 * Math.random()))
}

function isDead(
  error: unknown,
  deliveries: number,
  pattern: CommandPattern,
  context: MessageContext | null,
): boolean {
  if (error instanceof Rejected) return true
  if (error instanceof SandtrailError && error.retryable) return hasExpired(context)
  return deliveries >= (pattern.deliveriesMax ?? DELIVERIES_MAX)
}

/** Without an expiry the stream's own age ends it. */
function hasExpired(context: MessageContext | null): boolean {
  return context?.expiresAt != null && Date.parse(context.expiresAt) < Date.now()
}

function tellSender(messaging: Messaging, context: MessageContext | null, error: unknown): void {
  if (!context?.commandId || !context.tenant) return
  messaging.publishOutcome(context.tenant, context.commandId, { error: toErrorBody(error) })
}
