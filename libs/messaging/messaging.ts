/** What a service does on the broker: ask, tell, queue, listen. */

import { JetStreamApiError, type JetStreamClient, JetStreamError, jetstream } from '@nats-io/jetstream'
import { errors, type Msg, type NatsConnection } from '@nats-io/transport-node'
import { SandtrailError } from '#libs/domain'
import { correlation } from '#libs/service'
import { contextOf, type MessageContext } from './context.js'
import { decodeReply } from './envelope.js'
import { type SentHeaders, TRACEPARENT_HEADER, writeHeaders } from './headers.js'
import { decodeBody, encodeBody, type JsonObject } from './json.js'
import { Link } from './link.js'
import type { MessagingLog } from './log.js'
import { NUDGE_EVENTS, subjects } from './subjects.js'

export interface RequestOptions {
  /** How long to wait for the reply; default 5 s. */
  timeoutMs?: number
  headers?: SentHeaders
}

/** Queued, not accepted: the outcome comes as an event and on `out.<commandId>`. */
export interface Queued {
  stream: string
  seq: number
}

export interface Listener {
  close(): void
}

const REQUEST_MS = 5_000
const PUB_ACK_MS = 5_000
const DRAIN_MS = 5_000

export class Messaging {
  readonly link: Link
  private readonly js: JetStreamClient

  constructor(
    /** For the parts of this library; services use the methods. */
    readonly connection: NatsConnection,
    readonly log: MessagingLog,
  ) {
    this.link = new Link(connection, log)
    this.js = jetstream(connection, { timeout: PUB_ACK_MS })
  }

  /**
   * Asks, and resolves with the reply's body. Waits for a broker that is away.
   *
   * @throws Rejected or SandtrailError as the peer gave it; UNAVAILABLE at once when nobody serves the subject or
   * the connection breaks; DEADLINE_EXCEEDED after `timeoutMs`. In the last two what was asked may have happened: ask
   * again with the same command id.
   */
  async request(subject: string, body: object, options: RequestOptions = {}): Promise<JsonObject> {
    const payload = encodeBody(body)
    const headers = writeHeaders({ ...traceHeaders(), ...options.headers })
    let reply: Msg
    try {
      reply = await this.link.while(options.timeoutMs ?? REQUEST_MS, (timeout) =>
        this.connection.request(subject, payload, { timeout, headers }),
      )
    } catch (error) {
      throw transportError(error, subject)
    }
    return decodeReply(reply.data)
  }

  /** Tells whoever listens now; nothing is kept, and while the broker is away it is told to nobody. */
  publish(subject: string, body: object, headers: SentHeaders = {}): void {
    try {
      this.connection.publish(subject, encodeBody(body), { headers: writeHeaders(headers) })
    } catch (error) {
      throw transportError(error, subject)
    }
  }

  /**
   * Puts a command into COMMANDS.
   *
   * @param headers with a command id and an expiry, see `commandHeaders`.
   * @throws SandtrailError UNAVAILABLE when it is not sure to be queued: send it again with the same id.
   */
  async publishCommand(subject: string, body: object, headers: SentHeaders): Promise<Queued> {
    const payload = encodeBody(body)
    try {
      // No Nats-Msg-Id: the id that counts is the command's, and Postgres knows it for ever.
      const { stream, seq } = await this.link.while(PUB_ACK_MS, (timeout) =>
        this.js.publish(subject, payload, { headers: writeHeaders(headers), timeout }),
      )
      return { stream, seq }
    } catch (error) {
      throw transportError(error, subject)
    }
  }

  /** Sends a command's outcome to whoever waits for it on `out.<commandId>`. `outcome`: as the reply would be. */
  publishOutcome(tenant: string, commandId: string, outcome: object): void {
    this.publish(subjects.outcome(tenant, commandId), outcome)
  }

  /** Wakes everyone who reads the log: something was committed. */
  nudge(): void {
    this.connection.publish(NUDGE_EVENTS)
  }

  /**
   * Calls `handler` for each message. Nothing is kept and nothing is answered: use it for wake-ups. A message that
   * cannot be read, or a handler that throws, is logged.
   */
  subscribe(
    subject: string,
    handler: (body: JsonObject, context: MessageContext) => void | Promise<void>,
    options: { queue?: string } = {},
  ): Listener {
    const handle = async (error: Error | null, message: Msg) => {
      try {
        if (error) throw transportError(error, subject)
        await handler(decodeBody(message.data), contextOf(message))
      } catch (err) {
        this.log.error({ err, subject }, 'a message could not be handled')
      }
    }
    const subscription = this.connection.subscribe(subject, {
      ...options,
      callback: (error, message) => void handle(error, message),
    })
    return { close: () => subscription.unsubscribe() }
  }

  /** Sends what is buffered, then disconnects. Safe to call twice. */
  async close(): Promise<void> {
    if (this.connection.isClosed()) return
    const timer = setTimeout(() => void this.connection.close(), DRAIN_MS)
    try {
      await this.connection.drain()
    } catch {
      await this.connection.close()
    } finally {
      clearTimeout(timer)
    }
  }
}

/** A request belongs to the trace of the work that makes it. */
function traceHeaders(): SentHeaders {
  const { traceparent } = correlation()
  return traceparent === undefined ? {} : { [TRACEPARENT_HEADER]: traceparent }
}

/** An error of the client library, as one with a code. */
export function transportError(error: unknown, subject: string): unknown {
  if (isNoResponders(error)) return nobodyServes(subject, error)
  if (error instanceof errors.TimeoutError || (error instanceof Error && error.name === 'TimeoutError')) {
    return new SandtrailError('DEADLINE_EXCEEDED', `no reply on ${subject} in time`, { cause: error })
  }
  const denied = error instanceof Error && error.cause instanceof errors.PermissionViolationError
  if (denied || error instanceof errors.PermissionViolationError) {
    return new SandtrailError('PERMISSION_DENIED', `the broker does not allow ${subject}`, { cause: error })
  }
  if (error instanceof JetStreamError || error instanceof JetStreamApiError) {
    return new SandtrailError('UNAVAILABLE', `the broker did not store the message on ${subject}`, {
      cause: error,
    })
  }
  const ours = [errors.ClosedConnectionError, errors.DrainingConnectionError, errors.RequestError]
  if (ours.some((kind) => error instanceof kind)) {
    return new SandtrailError('UNAVAILABLE', 'there is no connection to the broker', { cause: error })
  }
  return error
}

function nobodyServes(subject: string, cause: unknown): SandtrailError {
  return new SandtrailError('UNAVAILABLE', `nobody serves ${subject}`, {
    hint: 'see whether the service that answers it runs: `sandtrail doctor`',
    cause,
  })
}

/** JetStream's publish hides it in the cause: nobody answers when no stream has the subject. */
function isNoResponders(error: unknown): boolean {
  if (error instanceof errors.RequestError && error.isNoResponders()) return true
  if (error instanceof errors.NoRespondersError) return true
  return error instanceof Error && error.cause !== undefined && isNoResponders(error.cause)
}
