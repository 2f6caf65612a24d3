/** Serves one request pattern: core request and reply, in a queue group, each request answered exactly once. */

import type { Msg, Subscription } from '@nats-io/transport-node'
import { Rejected, SandtrailError } from '#libs/domain'
import { contextOf, type MessageContext, mayReplyTo } from './context.js'
import { encodeError, encodeResult } from './envelope.js'
import { invoke } from './invoke.js'
import { decodeBody } from './json.js'
import { KeyedQueue } from './keyed-queue.js'
import type { Messaging } from './messaging.js'
import type { Handler, RequestPattern } from './patterns.js'

const CONCURRENCY = 1024
/** The tenant's own limits: counted in the audit of refusals, and a flood of them must not flood the log. */
const LIMITS: ReadonlySet<string> = new Set(['RESOURCE_EXHAUSTED', 'QUOTA_EXCEEDED'])

export class RequestServer {
  private readonly queue: KeyedQueue
  /** Those that have given their place away included. */
  private readonly unanswered = new Set<Promise<void>>()
  private subscription: Subscription | null = null

  constructor(
    private readonly messaging: Messaging,
    private readonly pattern: RequestPattern,
    private readonly handler: Handler,
    private readonly group: string,
    private readonly admit?: (context: MessageContext) => Promise<void>,
  ) {
    this.queue = new KeyedQueue(pattern.concurrency ?? CONCURRENCY)
  }

  start(): void {
    this.subscription = this.messaging.connection.subscribe(this.pattern.request, {
      queue: this.group,
      callback: (error, message) => {
        if (error) this.messaging.log.error({ err: error, subject: this.pattern.request }, 'cannot serve')
        else this.take(message)
      },
    })
  }

  /** No further request comes here; resolves when those in hand are answered. */
  async stop(): Promise<void> {
    await this.subscription?.drain()
    await this.queue.below(1)
    await Promise.all(this.unanswered)
  }

  private take(message: Msg): void {
    if (message.reply && !mayReplyTo(message.reply)) {
      this.messaging.log.warn({ subject: message.subject }, 'a request whose reply would not go to an inbox')
      return
    }
    // Answered at once: a caller that waits in a queue without end times out and sends again.
    if (this.queue.held >= (this.pattern.concurrency ?? CONCURRENCY)) {
      message.respond(encodeError(new SandtrailError('UNAVAILABLE', 'too many requests in hand')))
      return
    }
    this.queue.add(null, () => {
      const released = Promise.withResolvers<void>()
      const answered = this.answer(message, released.resolve).finally(() => this.unanswered.delete(answered))
      this.unanswered.add(answered)
      return Promise.race([answered, released.promise])
    })
  }

  private async answer(message: Msg, release: () => void): Promise<void> {
    let context: MessageContext | null = null
    let reply: Uint8Array
    try {
      context = { ...contextOf(message), release }
      await this.admit?.(context)
      reply = encodeResult(await invoke(this.handler, decodeBody(message.data), context))
    } catch (error) {
      this.logFailure(error, message.subject, context)
      reply = encodeError(error)
    }
    try {
      message.respond(reply)
    } catch (err) {
      this.messaging.log.warn({ err, subject: message.subject }, 'a reply could not be sent')
    }
  }

  /** A refusal is the caller's matter, and anything without a code is ours. */
  private logFailure(err: unknown, subject: string, context: MessageContext | null): void {
    if (err instanceof Rejected || (err instanceof SandtrailError && LIMITS.has(err.code))) return
    const fields = { err, subject, commandId: context?.commandId ?? null }
    if (err instanceof SandtrailError) this.messaging.log.warn(fields, 'a request failed')
    else this.messaging.log.error(fields, 'a request failed by a fault of the service')
  }
}
