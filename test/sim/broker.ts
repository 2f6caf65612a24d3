/**
 * The broker between the processes: requests to whoever serves a subject, messages to whoever listens, and a queue of
 * commands that is delivered until it is acknowledged. What it holds may vanish, what it carries may be late, lost,
 * doubled or overtaken.
 */

import { Rejected, SandtrailError } from '#libs/domain'
import type { JsonObject, MessageContext, Messaging } from '#libs/messaging'
import { decodeReply, encodeError, encodeResult } from '../../libs/messaging/envelope.js'
import type { SimProcess, World } from './world.js'

export interface BrokerWeather {
  latencyMs(): number
  loses(): boolean
  doubles(): boolean
}

type Handler = (body: JsonObject, context: MessageContext) => Promise<object | undefined>

interface Server {
  process: SimProcess
  subject: RegExp
  handle: Handler
}

interface Listener {
  process: SimProcess
  subject: RegExp
  handle(subject: string, body: JsonObject): void
}

interface Queued {
  subject: string
  text: string
  headers: Headers
  deliveries: number
}

export interface Headers {
  commandId?: string
  expiresAt?: Date
}

const REQUEST_MS = 5_000
const RECONNECT_MS = 200
const REDELIVER_MS = 2_000

export class Broker {
  isAway = false
  /** Processes that cannot reach it. */
  readonly cutOff = new Set<SimProcess>()
  private servers: Server[] = []
  private listeners: Listener[] = []
  private queue = new Set<Queued>()

  constructor(
    private readonly world: World,
    private readonly weather: BrokerWeather,
  ) {
    world.onDeath((process) => {
      this.servers = this.servers.filter((server) => server.process !== process)
      this.listeners = this.listeners.filter((listener) => listener.process !== process)
    })
  }

  get isEmpty(): boolean {
    return this.queue.size === 0
  }

  serve(process: SimProcess, subject: RegExp, handle: Handler): void {
    this.servers.push({ process, subject, handle })
  }

  listen(process: SimProcess, subject: RegExp, handle: Listener['handle']): void {
    this.listeners.push({ process, subject, handle })
  }

  /** What `Messaging` is to the product, for one process. */
  connect(from: SimProcess): Messaging {
    const publish = (subject: string, body: object = {}) => this.publish(from, subject, body)
    return {
      request: (subject: string, body: object, options: { timeoutMs?: number; headers?: Headers } = {}) =>
        this.request(from, subject, body, options),
      publish,
      publishOutcome: (tenant: string, id: string, outcome: object) =>
        publish(`v1.${tenant}.out.${id}`, outcome),
      nudge: () => publish('nudge.events'),
      connection: { rtt: () => this.rtt(from) },
    } as unknown as Messaging
  }

  publish(from: SimProcess, subject: string, body: object): void {
    if (from.state === 'dead' || !this.reaches(from)) return
    const text = JSON.stringify(body)
    for (const { process, subject: wanted, handle } of this.listeners) {
      if (!wanted.test(subject) || !this.reaches(process) || this.weather.loses()) continue
      const run = () => handle(subject, JSON.parse(text))
      this.world.after(this.weather.latencyMs(), run, process)
    }
  }

  /** Into COMMANDS. Throws when it is not sure to be there. */
  async enqueue(from: SimProcess, subject: string, body: object, headers: Headers): Promise<void> {
    if (!this.reaches(from) || this.weather.loses()) {
      await this.world.pause(REQUEST_MS)
      throw new SandtrailError('UNAVAILABLE', 'the broker did not store the message')
    }
    const message = { subject, text: JSON.stringify(body), headers, deliveries: 0 }
    this.queue.add(message)
    this.world.after(this.weather.latencyMs(), () => this.deliver(message), null)
    await this.world.pause(this.weather.latencyMs())
    if (this.weather.loses()) throw new SandtrailError('UNAVAILABLE', 'the acknowledgement did not come')
  }

  /** As if its store had been removed. */
  wipe(): void {
    this.queue = new Set()
  }

  /** Those who wait for a link find it again by themselves. */
  private reaches(process: SimProcess): boolean {
    return !this.isAway && !this.cutOff.has(process)
  }

  private rtt(from: SimProcess): Promise<number> {
    if (this.reaches(from)) return this.world.pause(1).then(() => 1)
    return new Promise(() => {})
  }

  private request(
    from: SimProcess,
    subject: string,
    body: object,
    { timeoutMs = REQUEST_MS, headers = {} }: { timeoutMs?: number; headers?: Headers },
  ): Promise<JsonObject> {
    const { world, weather } = this
    const text = JSON.stringify(body)
    return world.operate((resolve, reject) => {
      const late = world.after(
        timeoutMs,
        () => reject(new SandtrailError('DEADLINE_EXCEEDED', `no reply on ${subject} in time`)),
        from,
      )
      const answer = (settle: () => void) => {
        if (!this.reaches(from) || weather.loses()) return
        const heard = () => {
          late.run = null
          settle()
        }
        world.after(weather.latencyMs(), heard, from)
      }
      const ask = () => {
        if (late.run === null) return
        if (!this.reaches(from)) {
          world.after(RECONNECT_MS, ask, from)
          return
        }
        const able = this.servers.filter((each) => each.subject.test(subject) && this.reaches(each.process))
        if (able.length === 0) {
          answer(() => reject(new SandtrailError('UNAVAILABLE', `nobody serves ${subject}`)))
          return
        }
        for (let copies = weather.doubles() ? 2 : 1; copies > 0; copies--) {
          if (weather.loses()) continue
          const server = world.random.pick(able)
          const handle = () => {
            const context = contextOf(subject, headers, 1)
            world.trace.add('serve', server.process.name, subject, text.length)
            void reply(world, server.handle(JSON.parse(text), context)).then(
              (bytes) =>
                // The dead say nothing.
                server.process.state !== 'dead' && answer(() => decode(bytes, resolve, reject)),
            )
          }
          world.after(weather.latencyMs(), handle, server.process)
        }
      }
      world.after(weather.latencyMs(), ask, from)
    })
  }

  private deliver(message: Queued): void {
    const { world, weather } = this
    if (!this.queue.has(message)) return
    // Until it is acknowledged: comes again, also when whoever had it has died.
    world.after(REDELIVER_MS * Math.min(2 ** message.deliveries++, 16), () => this.deliver(message), null)
    const able = this.servers.filter(
      (each) => each.subject.test(message.subject) && this.reaches(each.process),
    )
    if (able.length === 0) return
    const server = world.random.pick(able)
    const handle = () => {
      const context = contextOf(message.subject, message.headers, message.deliveries)
      world.trace.add('deliver', server.process.name, message.subject, message.deliveries)
      const acknowledge = () => {
        const isHeard = server.process.state !== 'dead' && this.reaches(server.process) && !weather.loses()
        if (isHeard) this.queue.delete(message)
      }
      server.handle(JSON.parse(message.text), context).then(acknowledge, (error: unknown) => {
        if (error instanceof Rejected) acknowledge()
      })
    }
    world.after(weather.latencyMs(), handle, server.process)
  }
}

async function reply(world: World, result: Promise<object | undefined>): Promise<Uint8Array> {
  try {
    return encodeResult(await result)
  } catch (error) {
    const { code, stack } = error as { code?: string; stack?: string }
    world.trace.add('refuse', code ?? String(stack))
    return encodeError(error)
  }
}

function decode(
  bytes: Uint8Array,
  resolve: (body: JsonObject) => void,
  reject: (error: unknown) => void,
): void {
  try {
    resolve(decodeReply(bytes))
  } catch (error) {
    reject(error)
  }
}

function contextOf(subject: string, { commandId, expiresAt }: Headers, deliveries: number): MessageContext {
  const tokens = subject.split('.')
  return {
    subject,
    tokens,
    tenant: tokens[0] === 'v1' ? tokens[1]! : '',
    workerId: tokens[0] === 'ctl' ? tokens[1]! : null,
    headers: new Map(),
    commandId: commandId ?? null,
    expiresAt: expiresAt?.toISOString() ?? null,
    actor: 'nats:acme',
    traceparent: null,
    reply: null,
    deliveries,
  }
}
