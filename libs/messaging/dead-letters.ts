/** Where a queued command goes that cannot be handled: kept for a day as it came, with the reason. */

import { JetStreamApiError, type JsMsg, jetstream, type StoredMsg } from '@nats-io/jetstream'
import { type MsgHdrs, headers as natsHeaders } from '@nats-io/transport-node'
import { Rejected, SandtrailError } from '#libs/domain'
import { areHeadersTooLong, COMMAND_ID_HEADER, EXPIRES_AT_HEADER, plain } from './headers.js'
import { decodeBody, type Json, type JsonObject } from './json.js'
import { type Messaging, transportError } from './messaging.js'
import { COMMANDS, DEAD_LETTERS, managerOf } from './streams.js'
import { parseSubject, subjects } from './subjects.js'

export const DEAD_REASON_HEADER = 'Sandtrail-Dead-Reason'
export const DEAD_SUBJECT_HEADER = 'Sandtrail-Dead-Subject'
export const DEAD_DELIVERIES_HEADER = 'Sandtrail-Dead-Deliveries'
export const DEAD_AT_HEADER = 'Sandtrail-Dead-At'

const PUB_ACK_MS = 5_000

/** Resolves when DEAD_LETTERS has it. Doing it twice within two minutes keeps it once. */
export async function buryMessage(messaging: Messaging, message: JsMsg, error: unknown): Promise<void> {
  // Too long ones are what it died of, and go with it.
  const headers = copyOf(areHeadersTooLong(plain(message)) ? undefined : message.headers, /^nats-/i)
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

/** One as operators see it. */
export interface DeadLetter {
  /** Its name: the number in DEAD_LETTERS. */
  seq: number
  /** Where it was sent. */
  subject: string
  tenant: string | null
  commandId: string | null
  /** RFC 3339. */
  deadAt: string | null
  deliveries: number | null
  /** An error's code and text; of an error without a code its kind. */
  reason: string
  bytes: number
}

export interface DeadLetterBody extends DeadLetter {
  headers: Record<string, string>
  /** null: not JSON. Values of env and a small stdin are replaced: they are the tenant's secrets. */
  body: JsonObject | null
}

const NO_MESSAGE = 10037
/** What sends it again has this long to be accepted; the one that it had is over, most times. */
const REDRIVE_EXPIRY_MS = 600_000

/** Oldest first, those after the number `after`. @throws SandtrailError UNAVAILABLE */
export async function listDeadLetters(
  messaging: Messaging,
  { after = 0, limit }: { after?: number; limit: number },
): Promise<DeadLetter[]> {
  const found: DeadLetter[] = []
  for (let seq = after + 1; found.length < limit; ) {
    const message = await nextFrom(messaging, { seq, next_by_subj: 'dead.>' })
    if (message === null) break
    found.push(describe(message))
    seq = message.seq + 1
  }
  return found
}

/** @throws Rejected NOT_FOUND; SandtrailError UNAVAILABLE */
export async function readDeadLetter(messaging: Messaging, seq: number): Promise<DeadLetterBody> {
  const message = await find(messaging, seq)
  const headers: Record<string, string> = {}
  for (const name of message.header.keys()) headers[name] = message.header.get(name)
  return { ...describe(message), headers, body: readable(message.data) }
}

/**
 * Queues it again under its own command id and with a new expiry, then takes it away. If it had been handled meanwhile,
 * or is sent again twice, that changes nothing: its id is known.
 *
 * @throws Rejected NOT_FOUND, INVALID_ARGUMENT for what never was a command; SandtrailError UNAVAILABLE: it is still there
 */
export async function redriveDeadLetter(messaging: Messaging, seq: number): Promise<DeadLetter> {
  const message = await find(messaging, seq)
  const letter = describe(message)
  // Without an id it would be refused with nobody to hear it, and be gone.
  if (parseSubject(letter.subject)?.kind !== 'command' || letter.commandId === null) {
    throw new Rejected('INVALID_ARGUMENT', `dead letter ${seq} has no command id or no command's subject`, {
      hint: `remove it: \`sandtrail dead-letter rm ${seq}\``,
    })
  }
  const headers = copyOf(message.header, /^(nats-|sandtrail-dead-)/i)
  headers.set(EXPIRES_AT_HEADER, new Date(Date.now() + REDRIVE_EXPIRY_MS).toISOString())
  try {
    await messaging.link.while(PUB_ACK_MS, (timeout) =>
      jetstream(messaging.connection).publish(letter.subject, message.data, {
        headers,
        expect: { streamName: COMMANDS },
        timeout,
      }),
    )
  } catch (error) {
    throw transportError(error, letter.subject)
  }
  await remove(messaging, seq)
  return letter
}

/** Resolves with what it was. @throws Rejected NOT_FOUND; SandtrailError UNAVAILABLE */
export async function removeDeadLetter(messaging: Messaging, seq: number): Promise<DeadLetter> {
  const letter = describe(await find(messaging, seq))
  await remove(messaging, seq)
  return letter
}

async function find(messaging: Messaging, seq: number): Promise<StoredMsg> {
  const message = await nextFrom(messaging, { seq })
  if (message !== null) return message
  throw new Rejected('NOT_FOUND', `there is no dead letter ${seq}`, {
    hint: 'they are kept for a day: see `sandtrail dead-letter ls`',
  })
}

async function nextFrom(
  messaging: Messaging,
  query: { seq: number; next_by_subj?: string },
): Promise<StoredMsg | null> {
  try {
    const jsm = await managerOf(messaging)
    return await jsm.streams.getMessage(DEAD_LETTERS, query)
  } catch (error) {
    if (error instanceof JetStreamApiError && error.code === NO_MESSAGE) return null
    throw transportError(error, DEAD_LETTERS)
  }
}

async function remove(messaging: Messaging, seq: number): Promise<void> {
  try {
    const jsm = await managerOf(messaging)
    // Overwritten too: it may hold values of env.
    await jsm.streams.deleteMessage(DEAD_LETTERS, seq, true)
  } catch (error) {
    throw transportError(error, DEAD_LETTERS)
  }
}

function describe({ seq, subject: kept, header, data }: StoredMsg): DeadLetter {
  const subject = header.get(DEAD_SUBJECT_HEADER) || kept.slice(subjects.dead('').length)
  const parsed = parseSubject(subject)
  return {
    seq,
    subject,
    tenant: parsed && 'tenant' in parsed ? parsed.tenant : null,
    commandId: header.get(COMMAND_ID_HEADER) || null,
    deadAt: header.get(DEAD_AT_HEADER) || null,
    deliveries: Number(header.get(DEAD_DELIVERIES_HEADER)) || null,
    reason: header.get(DEAD_REASON_HEADER),
    bytes: data.length,
  }
}

function readable(data: Uint8Array): JsonObject | null {
  try {
    const { env, stdinBase64, ...rest } = decodeBody(data)
    return {
      ...rest,
      ...(env === undefined ? {} : { env: redactValues(env) }),
      ...(stdinBase64 === undefined ? {} : { stdinBase64: REDACTED }),
    }
  } catch {
    return null
  }
}

const REDACTED = '[redacted]'

function redactValues(env: Json): Json {
  if (typeof env !== 'object' || env === null || Array.isArray(env)) return REDACTED
  return Object.fromEntries(Object.keys(env).map((name) => [name, REDACTED]))
}

/** The broker's own headers are instructions to it (expectations, roll-up), which must not be followed again. */
function copyOf(from: MsgHdrs | undefined, without: RegExp): MsgHdrs {
  const headers = natsHeaders()
  for (const [name, values] of from ?? []) {
    if (without.test(name)) continue
    for (const value of values) headers.append(name, value)
  }
  return headers
}
