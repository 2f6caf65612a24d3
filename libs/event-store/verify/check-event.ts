/** Judges one event: against its own hash, against what the trail recorded, against its predecessor. */

import { hashEvent, NO_HASH } from '../envelope.js'
import type { TrailEntry } from '../ledger/trail-file.js'
import type { EventMeta } from '../types.js'
import type { RawEvent } from './log-rows.js'
import type { Findings } from './report.js'

/** Names at most one problem of an event. Returns its meta when the event can be believed, else null. */
export function checkEvent(
  event: RawEvent,
  recorded: TrailEntry | null,
  findings: Findings,
): EventMeta | null {
  const { stream, version } = event
  const at = { stream, version, position: recorded?.position ?? null }
  if (hashOf(event)?.equals(event.hash) !== true) {
    findings.add(
      'event-altered',
      at,
      `${stream} version ${version} does not have the hash that stands beside it`,
    )
    return null
  }
  if (recorded !== null && event.hash.toString('hex') !== recorded.hash) {
    findings.add(
      'event-rewritten',
      at,
      `${stream} version ${version} is not the event that was recorded there`,
    )
    return null
  }
  const buildsOn = event.predecessor_hash ?? (version === 1 ? NO_HASH : null)
  // What is wrong with the predecessor has been named already.
  if (!findings.has(stream, version - 1) && buildsOn?.equals(event.prev_hash) !== true) {
    const what = buildsOn === null ? 'has no predecessor' : 'does not build on its predecessor'
    findings.add('chain-broken', at, `${stream} version ${version} ${what}`)
    return null
  }
  return JSON.parse(event.meta)
}

/** Null for what can have no hash at all: a time of "infinity", a number that no double holds exactly. */
function hashOf(event: RawEvent): Buffer | null {
  if (!keepsNumbers(event.data) || !keepsNumbers(event.meta)) return null
  try {
    return hashEvent({
      tenant: event.tenant,
      stream: event.stream,
      version: event.version,
      type: event.type,
      typeVersion: event.type_version,
      at: event.at,
      eventId: event.event_id,
      data: JSON.parse(event.data),
      sealed: event.sealed,
      meta: JSON.parse(event.meta),
      prevHash: event.prev_hash,
    })
  } catch {
    return null
  }
}

const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g

/** jsonb holds numbers exactly and JavaScript does not: a change beyond a double's digits would not change the hash. */
function keepsNumbers(json: string): boolean {
  for (const [token] of json.matchAll(TOKENS)) {
    if (!token.startsWith('"') && digits(token) !== digits(String(Number(token)))) return false
  }
  return true
}

/** The significant digits, without sign, point, exponent and zeros at either end. */
function digits(number: string): string {
  const [mantissa = ''] = number.split(/[eE]/)
  return mantissa.replace(/[-.]/g, '').replace(/^0+|0+$/g, '')
}
