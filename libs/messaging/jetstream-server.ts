/**
 * Nest's transport over NATS: requests by core request and reply, commands by JetStream pull consumers, wake-ups by
 * plain subscriptions. Handlers are controllers' methods (`@MessagePattern`, `@EventPattern`) or plain functions
 * given to `handle`, for subjects that are known at run time only (`wrk.<id>.order`).
 *
 * The connection is the caller's: it is neither made nor closed here.
 */

import type { NatsConnection } from '@nats-io/transport-node'
import { type CustomTransportStrategy, type MessageHandler, Server } from '@nestjs/microservices'
import { CommandConsumer, type CommandRoute } from './command-consumer.js'
import type { MessageContext } from './context.js'
import { invoke } from './invoke.js'
import type { Listener, Messaging } from './messaging.js'
import { checkPattern, filterOf, type Handler, isCommand, isRequest, type Pattern } from './patterns.js'
import { RequestServer } from './request-server.js'

export interface JetStreamServerOptions {
  messaging: Messaging
  /** The service's name: its queue group. */
  name: string
  /** Asked before a request's body is read; what it throws is the answer. */
  admit?: (context: MessageContext) => Promise<void>
}

/** How long work in hand may take after `close`; what is left is delivered again, to somebody else. */
const DRAIN_MS = 25_000

export class JetStreamServer extends Server implements CustomTransportStrategy {
  // Errors of event handlers come to us, which log them with their subject.
  override readonly propagatesEventHandlerErrors = true
  private readonly registered: { pattern: Pattern; handler: Handler }[] = []
  private readonly requests: RequestServer[] = []
  private readonly consumers: CommandConsumer[] = []
  private readonly listeners: Listener[] = []

  constructor(private readonly options: JetStreamServerOptions) {
    super()
  }

  /** Registers a plain function, before `listen`. */
  handle(pattern: Pattern, handler: Handler): this {
    this.addHandler(pattern, handler as MessageHandler, 'event' in pattern)
    return this
  }

  /** Called by Nest for each decorated method. */
  override addHandler(pattern: unknown, callback: MessageHandler, isEventHandler = false, extras = {}): void {
    const checked = checkPattern(pattern)
    this.registered.push({ pattern: checked, handler: callback })
    // Nest's own map wants a readable, unique name.
    super.addHandler(`${Object.keys(checked)[0]} ${filterOf(checked)}`, callback, isEventHandler, extras)
  }

  override async listen(callback: (error?: unknown) => void): Promise<void> {
    try {
      for (const { pattern, handler } of this.registered) this.bind(pattern, handler)
      for (const [durable, routes] of this.routesByDurable()) {
        const consumer = new CommandConsumer(this.options.messaging, durable, routes)
        this.consumers.push(consumer)
        await consumer.start()
      }
      // Nest says "listening" only when the broker knows every subscription.
      await this.options.messaging.connection.flush()
      callback()
    } catch (error) {
      callback(error)
    }
  }

  override async close(): Promise<void> {
    for (const listener of this.listeners.splice(0)) listener.close()
    const serving = [...this.requests.splice(0), ...this.consumers.splice(0)]
    await within(DRAIN_MS, Promise.all(serving.map((one) => one.stop())))
  }

  override on(): never {
    throw new Error('this transport has no events of its own; see Messaging.connection.status()')
  }

  override unwrap<T = NatsConnection>(): T {
    return this.options.messaging.connection as T
  }

  private routesByDurable(): Map<string, CommandRoute[]> {
    const result = new Map<string, CommandRoute[]>()
    for (const { pattern, handler } of this.registered) {
      if (!isCommand(pattern)) continue
      result.set(pattern.durable, [...(result.get(pattern.durable) ?? []), { pattern, handler }])
    }
    return result
  }

  private bind(pattern: Pattern, handler: Handler): void {
    const { messaging, name, admit } = this.options
    if (isRequest(pattern)) {
      const server = new RequestServer(messaging, pattern, handler, pattern.queue ?? name, admit)
      server.start()
      this.requests.push(server)
    } else if (!isCommand(pattern)) {
      const listener = messaging.subscribe(pattern.event, async (body, context) => {
        await invoke(handler, body, context)
      })
      this.listeners.push(listener)
    }
  }
}

async function within(ms: number, work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const limit = new Promise((resolve) => {
    timer = setTimeout(resolve, ms)
  })
  await Promise.race([work, limit])
  clearTimeout(timer)
}
