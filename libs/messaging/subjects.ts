/**
 * Every subject on the broker, made and read in one place. Nothing that a caller gave becomes a token before it was
 * checked here: a `.`, `*` or `>` in an id would address something else.
 *
 *   v1.<tenant>.req.<aggregate>.<verb>         a request (a tenant's own account sees `req.…`)
 *   v1.<tenant>.cmd.<aggregate>.<verb>         a queued command, kept in COMMANDS
 *   v1.<tenant>.evt.<aggregate>.<id>.<type>    an event, kept in EVENTS
 *   v1.<tenant>.out.<commandId>                a command's outcome, again for each re-send
 *   wrk.<worker>.order | task                  requests to a worker
 *   ctl.<worker>.heartbeat | report            requests of a worker
 *   nudge.events                               something was committed
 *   dead.<subject>                             what could not be handled, kept in DEAD_LETTERS
 */

import { Rejected, TENANT } from '#libs/domain'

export { TENANT }

export const ANY_ID = /^[a-z]{2}-[0-9A-HJKMNP-TV-Z]{26}$/
export const WORKER_ID = /^wk-[0-9A-HJKMNP-TV-Z]{26}$/
const WORD = /^[a-z][a-z0-9-]{0,31}$/
const EVENT_TYPE = /^[A-Z][A-Za-z0-9]{0,63}$/
/** Made by the caller. It becomes tokens of `out.<commandId>`, so no dot stands first, last or beside another. */
const COMMAND_ID = /^(?=.{8,128}$)[A-Za-z0-9][A-Za-z0-9_:-]*(\.[A-Za-z0-9_:-]+)*$/

/** Aggregates that take queued commands. A tenant can queue nothing for others: nobody would ever pull it. */
export const COMMAND_AGGREGATES = ['sandbox', 'snapshot', 'image', 'volume', 'app'] as const

/** `tenant:<name>` and `token:<tenant>:<id>`, streams of the platform. */
const ADMINISTERED = /^(tenant|token):(?:[a-z0-9-]+:(?=ak-))?([A-Za-z0-9_-]+)$/

const AGGREGATE_OF_PREFIX: Readonly<Record<string, string>> = {
  sb: 'sandbox',
  ex: 'exec',
  sn: 'snapshot',
  im: 'image',
  vo: 'volume',
  wk: 'worker',
  ap: 'app',
}

export const NUDGE_EVENTS = 'nudge.events'

export type WorkerRequest = 'order' | 'task'
export type ControlRequest = 'heartbeat' | 'report'

/** Builders. Each throws Rejected INVALID_ARGUMENT when a part cannot be a token. */
export const subjects = {
  request: (tenant: string, aggregate: string, verb: string) =>
    `v1.${part(TENANT, 'tenant', tenant)}.req.${part(WORD, 'aggregate', aggregate)}.${part(WORD, 'verb', verb)}`,
  command: (tenant: string, aggregate: string, verb: string) =>
    `v1.${part(TENANT, 'tenant', tenant)}.cmd.${part(WORD, 'aggregate', aggregate)}.${part(WORD, 'verb', verb)}`,
  /** `stream` is an aggregate's id, or `command:<tenant>:<commandId>` for a rejection. */
  event: (tenant: string, stream: string, type: string) => {
    const { aggregate, id } = streamOf(stream)
    return `v1.${part(TENANT, 'tenant', tenant)}.evt.${aggregate}.${id}.${part(EVENT_TYPE, 'event type', type)}`
  },
  outcome: (tenant: string, commandId: string) =>
    `v1.${part(TENANT, 'tenant', tenant)}.out.${part(COMMAND_ID, 'command id', commandId)}`,
  worker: workerSubject,
  control: controlSubject,
  nudge: NUDGE_EVENTS,
  dead: (subject: string) => `dead.${subject}`,
} as const

/** A request to a worker: an order of the scheduler, a task of snapshotter or volume-syncer. */
export function workerSubject(workerId: string, what: WorkerRequest): string {
  return `wrk.${part(WORKER_ID, 'worker id', workerId)}.${what}`
}

/** A request of a worker. Its identity may publish on its own ones only, so the subject says who it is. */
export function controlSubject(workerId: string, what: ControlRequest): string {
  return `ctl.${part(WORKER_ID, 'worker id', workerId)}.${what}`
}

export type ParsedSubject =
  | { kind: 'request' | 'command'; tenant: string; aggregate: string; verb: string }
  | { kind: 'event'; tenant: string; aggregate: string; id: string; type: string }
  | { kind: 'outcome'; tenant: string; commandId: string }
  | { kind: 'worker'; workerId: string; what: WorkerRequest }
  | { kind: 'control'; workerId: string; what: ControlRequest }
  | { kind: 'nudge' }

/** What a subject says, or null when it is none of ours. */
export function parseSubject(subject: string): ParsedSubject | null {
  if (subject === NUDGE_EVENTS) return { kind: 'nudge' }
  const tokens = subject.split('.')
  const [head, who, kind, ...rest] = tokens
  if (head === 'v1' && TENANT.test(who ?? '')) return parseTenantSubject(who!, kind, rest)
  if (tokens.length !== 3 || !WORKER_ID.test(who ?? '')) return null
  if (head === 'wrk' && (kind === 'order' || kind === 'task')) {
    return { kind: 'worker', workerId: who!, what: kind }
  }
  if (head === 'ctl' && (kind === 'heartbeat' || kind === 'report')) {
    return { kind: 'control', workerId: who!, what: kind }
  }
  return null
}

/** True when `commandId` can name a command: 8 to 128 letters, digits, `_ : - .`, no dot at an end or doubled. */
export function isCommandId(commandId: string): boolean {
  return COMMAND_ID.test(commandId)
}

/**
 * The aggregate that a stream belongs to, and its id as one token. Never refuses: what is in the log is published,
 * whatever its name.
 */
export function streamOf(stream: string): { aggregate: string; id: string } {
  const aggregate = ANY_ID.test(stream) ? AGGREGATE_OF_PREFIX[stream.slice(0, 2)] : undefined
  if (aggregate) return { aggregate, id: stream }
  const [, administered, name] = ADMINISTERED.exec(stream) ?? []
  if (administered !== undefined) return { aggregate: administered, id: name! }
  const commandId = /^command:[a-z0-9-]+:(.+)$/.exec(stream)?.[1]
  return commandId
    ? { aggregate: 'command', id: encodeToken(commandId) }
    : { aggregate: 'other', id: encodeToken(stream) }
}

/** True when `subject` matches `filter`, in which `*` stands for one token and `>` for all that follow. */
export function matches(filter: string, subject: string): boolean {
  const wanted = filter.split('.')
  const tokens = subject.split('.')
  for (let i = 0; i < wanted.length; i++) {
    if (wanted[i] === '>') return tokens.length > i
    if (tokens[i] === undefined || (wanted[i] !== '*' && wanted[i] !== tokens[i])) return false
  }
  return wanted.length === tokens.length
}

function parseTenantSubject(tenant: string, kind: string | undefined, rest: string[]): ParsedSubject | null {
  const [aggregate = '', second = '', type = ''] = rest
  if ((kind === 'req' || kind === 'cmd') && rest.length === 2 && WORD.test(aggregate) && WORD.test(second)) {
    return { kind: kind === 'req' ? 'request' : 'command', tenant, aggregate, verb: second }
  }
  if (kind === 'evt' && rest.length === 3 && WORD.test(aggregate) && EVENT_TYPE.test(type)) {
    return { kind: 'event', tenant, aggregate, id: decodeToken(second), type }
  }
  if (kind === 'out' && isCommandId(rest.join('.'))) {
    return { kind: 'outcome', tenant, commandId: rest.join('.') }
  }
  return null
}

function part(shape: RegExp, what: string, value: string): string {
  if (shape.test(value)) return value
  throw new Rejected('INVALID_ARGUMENT', `not a ${what}: ${JSON.stringify(value.slice(0, 140))}`)
}

/** As in a URL; a dot too, for it would begin the next token. */
function encodeToken(text: string): string {
  return encodeURIComponent(text.toWellFormed()).replaceAll('.', '%2E').replaceAll('*', '%2A')
}

function decodeToken(token: string): string {
  try {
    return decodeURIComponent(token)
  } catch {
    return token
  }
}
