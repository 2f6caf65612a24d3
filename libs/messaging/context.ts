/** What a handler is told of a message beside its body, and whom of what the headers say is to be believed. */

import type { Msg } from '@nats-io/transport-node'
import { Rejected } from '#libs/domain'
import { allHeaders, headersOf, readHeaders } from './headers.js'
import { parseSubject } from './subjects.js'

export interface MessageContext {
  subject: string
  tokens: readonly string[]
  /** From the subject, which the tenant's account fixes; '' on the platform's own subjects. */
  tenant: string
  /** From `wrk.<id>.…` and `ctl.<id>.…`, which a worker's identity fixes; else null. */
  workerId: string | null
  /** Names in lower case. */
  headers: ReadonlyMap<string, string>
  commandId: string | null
  /** RFC 3339. */
  expiresAt: string | null
  /** Whose doing it is: `worker:<id>`, `nats:<tenant>`, or what a service of the platform says. */
  actor: string
  traceparent: string | null
  /** Where the reply goes; null when none is wanted. */
  reply: string | null
  /** 1, or more for a queued command that came before. */
  deliveries: number
  /** Of a request: what is left to do only waits, so its place goes to another. Its answer is sent all the same. */
  release?: () => void
}

/** Inboxes of the platform's own account. A tenant's reply subject never has this form here: see below. */
const OWN_INBOX = '_INBOX.'
/** Reply subjects that the server makes for a request that crossed an account. */
const CROSSED_INBOX = '_R_.'

/**
 * The context of a message. `deliveries`: of a queued one, whose reply subject is the broker's.
 *
 * @throws Rejected INVALID_ARGUMENT for damaged headers.
 */
export function contextOf(message: Msg, deliveries?: number): MessageContext {
  const reply = deliveries === undefined ? message.reply || null : null
  const subject = parseSubject(message.subject)
  const tenant = subject && 'tenant' in subject ? subject.tenant : ''
  const workerId = subject && 'workerId' in subject ? subject.workerId : null
  if (message.subject.startsWith('v1.') && tenant === '') {
    throw new Rejected('INVALID_ARGUMENT', `no subject of this service: ${message.subject.slice(0, 200)}`)
  }
  const headers = headersOf(message)
  const { commandId, expiresAt, actor, traceparent } = readHeaders(headers)
  return {
    subject: message.subject,
    tokens: message.subject.split('.'),
    tenant,
    workerId,
    headers: allHeaders(headers),
    commandId,
    expiresAt,
    actor: actorOf({ subject: message.subject, reply, tenant, workerId, claimed: actor }),
    traceparent,
    reply,
    deliveries: deliveries ?? 1,
  }
}

/**
 * A reply goes to an inbox or nowhere: a caller that names a command's or the broker's own subject as its reply
 * would make us publish there with our rights. (The server rewrites a tenant's reply subject to `_R_.…`, except one
 * that begins with `$JS.ACK`.)
 */
export function mayReplyTo(reply: string): boolean {
  return reply.startsWith(OWN_INBOX) || reply.startsWith(CROSSED_INBOX)
}

/**
 * `Sandtrail-Actor` is believed in a request from the platform's own account, recognised by its reply inbox: the
 * server rewrites every tenant's. A queued command has no reply subject left, so there it is never believed.
 */
function actorOf({
  subject,
  reply,
  tenant,
  workerId,
  claimed,
}: Record<'subject' | 'tenant', string> & Record<'reply' | 'workerId' | 'claimed', string | null>): string {
  if (subject.startsWith('ctl.') && workerId !== null) return `worker:${workerId}`
  if (reply?.startsWith(OWN_INBOX)) return claimed ?? 'system:platform'
  return tenant === '' ? 'system:platform' : `nats:${tenant}`
}
