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
/** What a tenant that has too many requests in hand is told; some of them end within this, or none for long. */
const RETRY_MS = 1_000
/** The tenant's own limits: counted in the audit of refusals, and a flood of them must not flood the log. */
const LIMITS: ReadonlySet<string> = new Set(['RESOURCE_EXHAUSTED', 'QUOTA_EXCEEDED'])

export class RequestServer {
  private readonly queue: KeyedQueue
  /** Those that have given their place away included. */
  private readonly unanswered = new Set<Promise<void>>()
  private subscription: Subscription | null = null
  /** Requests in hand by tenant. */
  private readonly heldBy = new Map<string, number>()

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
    const tenant = tenantOf(message.subject)
    if (tenant === null) this.queue.add(null, () => this.serve(message))
    else this.takeOf(tenant, message)
  }

  /** A handler may take long: one tenant that asks for much leaves the others half of the places. */
  private takeOf(tenant: string, message: Msg): void {
    const held = this.heldBy.get(tenant) ?? 0
    if (held >= Math.ceil((this.pattern.concurrency ?? CONCURRENCY) / 2)) {
      const crowded = new SandtrailError('RESOURCE_EXHAUSTED', 'the tenant has too many requests in hand', {
        hint: 'wait for the answers of some, or follow events instead of waiting',
        retryAfterMs: RETRY_MS,
      })
      message.respond(encodeError(crowded))
      return
    }
    this.heldBy.set(tenant, held + 1)
    this.queue.add(null, async () => {
      await this.serve(message)
      const left = (this.heldBy.get(tenant) ?? 1) - 1
      if (left === 0) this.heldBy.delete(tenant)
      else this.heldBy.set(tenant, left)
    })
  }

  /** Resolves when it is answered, or has given its place away. */
  private serve(message: Msg): Promise<void> {
    const released = Promise.withResolvers<void>()
    const answered = this.answer(message, released.resolve).finally(() => this.unanswered.delete(answered))
    this.unanswered.add(answered)
    return Promise.race([answered, released.promise])
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

/** Null for the platform's own subjects. */
function tenantOf(subject: string): string | null {
  const [head, tenant] = subject.split('.', 2)
  return head === 'v1' && tenant !== undefined ? tenant : null
}
