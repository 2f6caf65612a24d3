/** The headers that a message may carry, written and read strictly: a damaged one is refused, never guessed at. */

import type { JsMsg } from '@nats-io/jetstream'
import { headers as createHeaders, Match, type Msg, type MsgHdrs } from '@nats-io/transport-node'
import { Rejected } from '#libs/domain'
import { isCommandId } from './subjects.js'

export const COMMAND_ID_HEADER = 'Sandtrail-Command-Id'
export const EXPIRES_AT_HEADER = 'Sandtrail-Expires-At'
export const ACTOR_HEADER = 'Sandtrail-Actor'
export const TRACEPARENT_HEADER = 'traceparent'

/**
 * Of all headers of a message: ours take 600. The transport reads them in a time that grows with the square of their
 * number (51 ms for 2,000), so those of a hostile message must not be touched.
 */
const HEADER_BYTES_MAX = 4_096

const RFC_3339 = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})$/
const TRACEPARENT = /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/
const ACTOR = /^[a-z]{1,16}:[A-Za-z0-9._:@-]{1,128}$/

/** Headers by name, as a sender gives them. */
export type SentHeaders = Readonly<Record<string, string>>

/** What the receiver may use of them. */
export interface ReceivedHeaders {
  commandId: string | null
  /** RFC 3339. */
  expiresAt: string | null
  /** `token:<id>`, `system:<service>`, …: only a claim, see context.ts. */
  actor: string | null
  /** W3C trace context. */
  traceparent: string | null
}

/** The headers of a command. `expiresAt`: after it the command is refused. */
export function commandHeaders(command: {
  commandId: string
  expiresAt: Date
  actor?: string
  traceparent?: string | null
}): SentHeaders {
  return {
    [COMMAND_ID_HEADER]: command.commandId,
    [EXPIRES_AT_HEADER]: command.expiresAt.toISOString(),
    ...(command.actor ? { [ACTOR_HEADER]: command.actor } : {}),
    ...(command.traceparent ? { [TRACEPARENT_HEADER]: command.traceparent } : {}),
  }
}

/** @throws Rejected INVALID_ARGUMENT when a name or value cannot stand in a header (line breaks). */
export function writeHeaders(sent: SentHeaders): MsgHdrs {
  const result = createHeaders()
  for (const [name, value] of Object.entries(sent)) {
    try {
      result.set(name, value)
    } catch {
      throw new Rejected('INVALID_ARGUMENT', `the header ${JSON.stringify(name)} cannot be sent`)
    }
  }
  return result
}

/** A queued message as it came: the client has it, and its types do not say so. */
export function plain(message: JsMsg): Msg {
  return (message as JsMsg & { readonly msg: Msg }).msg
}

/** Whether the headers of a message that came must not be looked at. */
export function areHeadersTooLong(message: Msg): boolean {
  const others = Buffer.byteLength(message.subject) + Buffer.byteLength(message.reply ?? '')
  // The client has this method too.
  const bytes = (message as Msg & { size(): number }).size()
  return bytes - others - message.data.length > HEADER_BYTES_MAX
}

/** @throws Rejected INVALID_ARGUMENT when they are too long */
export function headersOf(message: Msg): MsgHdrs | undefined {
  if (!areHeadersTooLong(message)) return message.headers
  throw new Rejected('INVALID_ARGUMENT', `the headers of a message have ${HEADER_BYTES_MAX} bytes at most`, {
    hint: 'put what is long into the body',
  })
}

/** @throws Rejected INVALID_ARGUMENT for a header that is malformed or given twice. */
export function readHeaders(received: MsgHdrs | undefined): ReceivedHeaders {
  const commandId = single(received, COMMAND_ID_HEADER)
  if (commandId !== null && !isCommandId(commandId)) throw invalid(COMMAND_ID_HEADER)
  const expiresAt = single(received, EXPIRES_AT_HEADER)
  const actor = single(received, ACTOR_HEADER)
  const traceparent = single(received, TRACEPARENT_HEADER)
  return {
    commandId,
    expiresAt: expiresAt === null ? null : checkTime(expiresAt),
    actor: actor !== null && ACTOR.test(actor) ? actor : null,
    // The standard asks to go on without a trace that cannot be read.
    traceparent: traceparent !== null && TRACEPARENT.test(traceparent) ? traceparent : null,
  }
}

/** All headers, names in lower case, the first value of each. */
export function allHeaders(received: MsgHdrs | undefined): ReadonlyMap<string, string> {
  const result = new Map<string, string>()
  for (const name of received?.keys() ?? []) {
    const key = name.toLowerCase()
    if (!result.has(key)) result.set(key, received!.get(name))
  }
  return result
}

function single(received: MsgHdrs | undefined, name: string): string | null {
  const values = received?.values(name, Match.IgnoreCase) ?? []
  if (values.length > 1) throw invalid(name)
  return values[0] ? values[0] : null
}

function checkTime(text: string): string {
  if (!RFC_3339.test(text) || Number.isNaN(Date.parse(text))) throw invalid(EXPIRES_AT_HEADER)
  return text
}

const SHAPES: Readonly<Record<string, string>> = {
  [COMMAND_ID_HEADER]: '8 to 128 letters, digits, "_", ":", "-", single "."',
  [EXPIRES_AT_HEADER]: 'a time like 2026-01-31T12:00:00Z (RFC 3339)',
}

function invalid(name: string): Rejected {
  return new Rejected(
    'INVALID_ARGUMENT',
    `the header ${name} must be given once, as ${SHAPES[name] ?? 'text'}`,
  )
}
