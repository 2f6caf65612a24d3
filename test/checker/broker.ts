/** EVENTS and DEAD_LETTERS against the ledger: every position is published, once, in order, as what it is (I-14). */

import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream'
import {
  COMMAND_ID_HEADER,
  DEAD_LETTERS,
  DEAD_REASON_HEADER,
  EVENTS,
  HASH_HEADER,
  type Messaging,
  POSITION_HEADER,
  VERSION_HEADER,
} from '#libs/messaging'
import { type Finding, finding } from './finding.js'
import type { Log } from './log.js'

export interface Published {
  position: number
  stream: string
  version: number
  hash: string
}

export interface DeadLetter {
  subject: string
  reason: string
  commandId: string | null
}

export interface BrokerContent {
  /** In the order of the stream. */
  published: Published[]
  dead: DeadLetter[]
}

/** @param messaging of a user who may use JetStream */
export async function readBroker(messaging: Messaging): Promise<BrokerContent> {
  const published = await readAll(messaging, EVENTS, (headers) => ({
    position: Number(headers(POSITION_HEADER)),
    stream: decodeURI(headers('ce-subject')),
    version: Number(headers(VERSION_HEADER)),
    hash: headers(HASH_HEADER),
  }))
  const dead = await readAll(messaging, DEAD_LETTERS, (headers, subject) => ({
    subject,
    reason: headers(DEAD_REASON_HEADER),
    commandId: headers(COMMAND_ID_HEADER) || null,
  }))
  return { published, dead }
}

async function readAll<T>(
  messaging: Messaging,
  stream: string,
  read: (header: (name: string) => string, subject: string) => T,
): Promise<T[]> {
  const jsm = await jetstreamManager(messaging.connection)
  const { state } = await jsm.streams.info(stream)
  if (state.messages === 0) return []
  const config = {
    ack_policy: AckPolicy.None,
    deliver_policy: DeliverPolicy.All,
    inactive_threshold: 60_000_000_000,
    mem_storage: true,
  }
  const { name } = await jsm.consumers.add(stream, config)
  const consumer = await jetstream(messaging.connection).consumers.get(stream, name)
  const found: T[] = []
  try {
    // By what is left, not by a count: messages may be added, or be too old, meanwhile.
    for (let pending = state.messages; pending > 0; ) {
      for await (const message of await consumer.fetch({
        max_messages: Math.min(pending, 500),
        expires: 5_000,
      })) {
        found.push(read((header) => message.headers?.get(header) ?? '', message.subject))
        pending = message.info.pending
      }
    }
  } finally {
    await consumer.delete()
  }
  return found
}

/** A dead letter whose command was decided after all (it was sent again) has done no harm. */
export function judgeBroker({ published, dead }: BrokerContent, log: Log): Finding[] {
  const findings: Finding[] = []
  const ledger = new Map(
    log.events.filter(({ position }) => position !== null).map((event) => [event.position!, event]),
  )
  const seen = new Set<number>()
  let last = 0
  for (const { position, stream, version, hash } of published) {
    const at = { stream, version, position }
    const event = ledger.get(position)
    if (event?.stream !== stream || event.version !== version || event.hash !== hash) {
      findings.push(
        finding('phantom', 'I-14', at, 'the broker has an event that the ledger does not have there'),
      )
    } else if (seen.has(position)) findings.push(finding('duplicated', 'I-14', at, 'the broker has it twice'))
    else if (position < last)
      findings.push(
        finding('lost', 'I-14', at, `published only after position ${last}: who follows has missed it`),
      )
    seen.add(position)
    last = Math.max(last, position)
  }
  for (const [position, event] of ledger) {
    if (!seen.has(position)) findings.push(finding('lost', 'I-14', event, 'it was never published'))
  }
  const decided = new Set(log.commands.map(({ commandId }) => commandId))
  for (const { subject, reason, commandId } of dead) {
    if (commandId !== null && decided.has(commandId)) continue
    findings.push(
      finding('stuck', 'I-1', {}, `a dead letter for ${subject}, command ${commandId}: ${reason}`),
    )
  }
  return findings
}
