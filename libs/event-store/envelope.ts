/** The bytes that the hash chain covers: RFC 8785 of every column that the appender writes. Version 1 of the form. */

import { hash } from 'node:crypto'
import canonicalize from 'canonicalize'
import { canonicalJson } from './json.js'
import type { EventMeta, JsonObject } from './types.js'

export interface Envelope {
  tenant: string
  stream: string
  version: number
  type: string
  typeVersion: number
  at: Date
  eventId: string
  data: JsonObject
  sealed: Buffer | null
  meta: EventMeta
  prevHash: Buffer
}

/** What stands before the first event of each stream. */
export const NO_HASH: Buffer = Buffer.alloc(32)

/** sha256 over the canonical envelope, 32 bytes. */
export function hashEvent({ data, meta, ...event }: Envelope): Buffer {
  const parts = { ...event, data: canonicalJson(data, 'data'), meta: canonicalJson(meta, 'meta') }
  return sha256(canonicalEnvelope(parts))
}

/** The text that is hashed. `data` and `meta` are canonical already. */
export function canonicalEnvelope(
  event: Omit<Envelope, 'data' | 'meta'> & { data: string; meta: string },
): string {
  const { tenant, stream, version, type, typeVersion, at, eventId, data, sealed, meta, prevHash } = event
  const members = [
    `"at":"${at.toISOString()}"`,
    `"data":${data}`,
    `"eventId":${JSON.stringify(eventId)}`,
    `"meta":${meta}`,
    `"prevHash":"${prevHash.toString('hex')}"`,
    `"sealed":${sealed === null ? null : `"${sealed.toString('base64')}"`}`,
    `"stream":${JSON.stringify(stream)}`,
    `"tenant":${JSON.stringify(tenant)}`,
    `"type":${JSON.stringify(type)}`,
    `"typeVersion":${typeVersion}`,
    `"v":1`,
    `"version":${version}`,
  ]
  return `{${members.join()}}`
}

/** Hash of a command for `CommandRef.hash`: the same id with another verb or body is told from a re-send by it. */
export function commandHash(verb: string, body: JsonObject): Buffer {
  return sha256(canonicalize({ verb, body }) as string)
}

/**
 * An id for a command that the system gives itself, the same each time for the same cause: a process manager's
 * (event, reaction), a timer's (key, generation). 32 hex digits behind a letter.
 */
export function derivedCommandId(...cause: (string | number | bigint)[]): string {
  return `d${sha256(JSON.stringify(cause.map(String))).toString('hex', 0, 16)}`
}

export function sha256(text: string): Buffer {
  return hash('sha256', text, 'buffer')
}
