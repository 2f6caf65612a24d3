/**
 * One durable pull consumer of COMMANDS, kept alive whatever happens to it: a broker that was restarted or wiped, a
 * deleted stream or consumer, one that is paused or hands out nothing. Liveness is progress, not a connection.
 *
 *   ensure stream and consumer -> pull -> (stalled, deleted, reconnected) -> ensure again -> …
 */

import {
  AckPolicy,
  type ConsumerConfig,
  type ConsumerInfo,
  type ConsumerMessages,
  JetStreamApiError,
  type JsMsg,
  jetstream,
} from '@nats-io/jetstream'
import { nanos, type Subscription } from '@nats-io/transport-node'
import { SandtrailError } from '#libs/domain'
import { type Delivery, readDelivery, settle } from './delivery.js'
import { KeyedQueue } from './keyed-queue.js'
import { type Messaging, transportError } from './messaging.js'
import type { CommandPattern, Handler } from './patterns.js'
import { COMMANDS, differences, ensureStreams, managerOf } from './streams.js'
import { matches } from './subjects.js'

export interface CommandRoute {
  pattern: CommandPattern
  handler: Handler
}

const CONCURRENCY = 64
/** Not acknowledged for so long, a message goes to somebody else; work in hand says so three times as often. */
const ACK_WAIT_MS = 30_000
const ACK_PENDING_MAX = 1_000
const PULL_MS = 10_000
/** The broker is silent for this long at most, else the pull is dead: two missed heartbeats of 5 s. */
const HEARTBEAT_MS = 5_000
const SILENCE_MS_MAX = 12_000
const WATCH_MS = 5_000
const RETRY_MS = 500
const CONSUMER_NOT_FOUND = 10014

export class CommandConsumer {
  private readonly queue: KeyedQueue
  private readonly concurrency: number
  private readonly inHand = new Set<JsMsg>()
  private messages: ConsumerMessages | null = null
  private isStopping = false
  private running: Promise<void> | null = null
  private lastSignAt = 0
  private deliveredBefore = -1
  private forgetLink: (() => void) | null = null
  private readonly timers: NodeJS.Timeout[] = []

  constructor(
    private readonly messaging: Messaging,
    private readonly durable: string,
    private readonly routes: readonly CommandRoute[],
  ) {
    this.concurrency = Math.max(...routes.map(({ pattern }) => pattern.concurrency ?? CONCURRENCY))
    this.queue = new KeyedQueue(this.concurrency)
  }

  /** Resolves when it pulls. @throws SandtrailError when stream or consumer cannot be made as needed. */
  async start(): Promise<void> {
    await this.open()
    this.running = this.run()
    this.timers.push(
      setInterval(() => this.sayWorking(), ACK_WAIT_MS / 3),
      setInterval(() => void this.watch(), WATCH_MS),
    )
    // What the client does by itself after a reconnect trusts that the consumer is still there.
    this.forgetLink = this.messaging.link.onReconnect(() => this.reopen('reconnected'))
  }

  /** Pulls no more; resolves when the work in hand is settled. What was pulled but not begun is given back. */
  async stop(): Promise<void> {
    this.isStopping = true
    this.forgetLink?.()
    if (this.messages) await drain(this.messages)
    await this.running
    await this.queue.below(1)
    for (const timer of this.timers.splice(0)) clearInterval(timer)
  }

  private async run(): Promise<void> {
    while (!this.isStopping) {
      try {
        if (!this.messages) await this.open()
        for await (const message of this.messages!) {
          await this.take(message)
        }
      } catch (err) {
        this.messaging.log.warn({ err, durable: this.durable }, 'pulling commands failed, trying again')
      }
      this.messages?.stop()
      this.messages = null
      if (!this.isStopping) await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
    }
  }

  private async open(): Promise<void> {
    await ensureStreams(this.messaging)
    await ensureConsumer(this.messaging, this.durable, this.routes)
    const js = jetstream(this.messaging.connection)
    const consumer = await js.consumers.get(COMMANDS, this.durable)
    this.messages = await consumer.consume({
      max_messages: this.concurrency,
      expires: PULL_MS,
      idle_heartbeat: HEARTBEAT_MS,
      abort_on_missing_resource: true,
    })
    this.lastSignAt = performance.now()
    void this.noteSigns(this.messages)
  }

  /** Slows the pull down to the pace of the handlers. */
  private async take(message: JsMsg): Promise<void> {
    this.lastSignAt = performance.now()
    await this.queue.below(2 * this.concurrency)
    if (this.isStopping) return message.nak()
    const delivery = readDelivery(message)
    const route = this.routes.find(({ pattern }) => matches(pattern.command, message.subject))
    // The consumer's filters are those of the routes, unless somebody changed it: the next look mends that.
    if (!route) return message.nak(RETRY_MS)
    this.inHand.add(message)
    this.queue.add(keyFor(route.pattern, delivery), async () => {
      if (this.isStopping) message.nak()
      else await settle(this.messaging, delivery, route.pattern, route.handler)
      this.inHand.delete(message)
    })
  }

  private sayWorking(): void {
    for (const message of this.inHand) message.working()
  }

  private async noteSigns(messages: ConsumerMessages): Promise<void> {
    for await (const { type } of messages.status()) {
      if (type === 'heartbeat' || type === 'discard') this.lastSignAt = performance.now()
    }
  }

  /** Looks whether the consumer is alive and hands out what it has. */
  private async watch(): Promise<void> {
    const isFull = this.queue.held >= 2 * this.concurrency
    if (!this.messages || isFull) return
    if (performance.now() - this.lastSignAt > SILENCE_MS_MAX) return this.reopen('no sign of life')
    try {
      const jsm = await managerOf(this.messaging)
      const info = await jsm.consumers.info(COMMANDS, this.durable)
      if (info.paused || this.isStuck(info)) await jsm.consumers.delete(COMMANDS, this.durable)
      else if (info.num_pending === 0 || info.num_waiting > 0) return
      this.reopen(info.paused ? 'it was paused' : 'it hands out nothing')
    } catch (error) {
      if (error instanceof JetStreamApiError) this.reopen('it is gone')
    }
  }

  /** It has messages and room, is asked for them, and has handed out none since the last look. */
  private isStuck({ num_pending, num_ack_pending, num_waiting, delivered }: ConsumerInfo): boolean {
    const before = this.deliveredBefore
    this.deliveredBefore = delivered.consumer_seq
    const hasRoom = num_ack_pending < ACK_PENDING_MAX
    return num_pending > 0 && num_waiting > 0 && hasRoom && before === delivered.consumer_seq
  }

  private reopen(why: string): void {
    if (this.isStopping || !this.messages) return
    this.messaging.log.warn({ durable: this.durable, why }, 'the consumer of commands is opened again')
    this.messages.stop()
  }
}

/**
 * Ends a pull without losing what is on its way: the library's own `stop` would drop it, and it would come again only
 * after the ack wait. The subscription below it can be drained, which `NatsConnection.drain` does too.
 */
async function drain(messages: ConsumerMessages): Promise<void> {
  const { sub } = messages as { sub?: Subscription }
  try {
    await sub?.drain()
  } catch {
    // No connection: nothing is on its way.
  }
  messages.stop()
}

/** What cannot be read has no order to keep. */
function keyFor(pattern: CommandPattern, { context, body, unreadable }: Delivery): string | null {
  if (unreadable || !context) return null
  return pattern.key?.(body, context) ?? context.commandId
}

async function ensureConsumer(
  messaging: Messaging,
  durable: string,
  routes: readonly CommandRoute[],
): Promise<void> {
  const jsm = await managerOf(messaging)
  const wanted = {
    durable_name: durable,
    filter_subjects: [...new Set(routes.map(({ pattern }) => pattern.command))].sort(),
    ack_policy: AckPolicy.Explicit,
    ack_wait: nanos(ACK_WAIT_MS),
    // Ours is the count: past a limit of the broker's the message would stay in the stream and never come again.
    max_deliver: -1,
    max_ack_pending: ACK_PENDING_MAX,
  } satisfies Partial<ConsumerConfig>
  let held: ConsumerConfig
  try {
    held = (await jsm.consumers.info(COMMANDS, durable)).config
    if (differences(wanted, held).length > 0) {
      held = (await jsm.consumers.update(COMMANDS, durable, wanted)).config
    }
  } catch (error) {
    const isMissing = error instanceof JetStreamApiError && error.code === CONSUMER_NOT_FOUND
    if (!isMissing) throw transportError(error, `the consumer ${durable}`)
    held = (await jsm.consumers.add(COMMANDS, wanted)).config
  }
  const left = differences(wanted, held)
  if (left.length > 0) {
    throw new SandtrailError('INTERNAL', `the consumer ${durable} differs in ${left.join(', ')}`, {
      hint: `delete the consumer ${durable} of ${COMMANDS} and start again`,
    })
  }
}
