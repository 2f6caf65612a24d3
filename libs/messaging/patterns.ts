/**
 * What a handler may be registered for, as the argument of @MessagePattern and @EventPattern.
 *
 *   @MessagePattern({ request: 'v1.*.req.sandbox.*' })                          answered at once
 *   @MessagePattern({ command: 'v1.*.cmd.sandbox.*', durable: 'scheduler' })    pulled from COMMANDS
 *   @EventPattern({ event: 'v1.*.evt.sandbox.>' })                              heard, never answered
 */

import type { MessageContext } from './context.js'
import type { JsonObject } from './json.js'

/** Core request and reply. Each message goes to one member of the queue group. */
export interface RequestPattern {
  request: string
  /** Queue group; default: the service's name. */
  queue?: string
  /** Requests in hand at most; one more is answered UNAVAILABLE. Default 1024. */
  concurrency?: number
}

/** A durable pull consumer. Patterns with the same `durable` share one, in whichever processes they run. */
export interface CommandPattern {
  command: string
  durable: string
  /** Messages of one key are handled in order; default: the command id. */
  key?: (body: JsonObject, context: MessageContext) => string
  /** Deliveries after which one that keeps failing, not for trouble that may pass, is dead; default 5. */
  deliveriesMax?: number
  /** Handled at a time at most, by this process; default 64. */
  concurrency?: number
}

/** A plain subscription, for wake-ups: what comes while nobody listens is gone. */
export interface EventPattern {
  event: string
}

export type Pattern = RequestPattern | CommandPattern | EventPattern

/** Answers with the reply's fields, or throws Rejected or SandtrailError. */
export type Handler = (body: JsonObject, context: MessageContext) => unknown

export function isRequest(pattern: Pattern): pattern is RequestPattern {
  return 'request' in pattern
}

export function isCommand(pattern: Pattern): pattern is CommandPattern {
  return 'command' in pattern
}

/** The subject filter of a pattern. */
export function filterOf(pattern: Pattern): string {
  if (isRequest(pattern)) return pattern.request
  return isCommand(pattern) ? pattern.command : pattern.event
}

const TOKEN = /^([A-Za-z0-9_:%-]+|\*)$/

/** @throws Error for what is no pattern: a mistake of the program, which must not start with it. */
export function checkPattern(pattern: unknown): Pattern {
  const forms = ['request', 'command', 'event']
  const given = pattern !== null && typeof pattern === 'object' ? Object.entries(pattern) : []
  const filters = given.filter(([key]) => forms.includes(key))
  if (filters.length !== 1 || typeof filters[0]![1] !== 'string') {
    throw new Error(`not a pattern of this transport: ${JSON.stringify(pattern)}`)
  }
  const tokens = filters[0]![1].split('.')
  const bad = tokens.some((token, i) => !TOKEN.test(token) && !(token === '>' && i === tokens.length - 1))
  if (bad) throw new Error(`not a subject filter: ${filters[0]![1]}`)
  const checked = pattern as Pattern
  if (isCommand(checked) && !/^[a-z][a-z0-9-]*$/.test(checked.durable)) {
    throw new Error(`a command pattern needs a durable name: ${checked.command}`)
  }
  return checked
}
