/** One stream in files, one consumer, and nothing of ours: the baseline of what our path adds to a delivery. */

import { jetstream, jetstreamManager } from '@nats-io/jetstream'
import type { NatsConnection } from '@nats-io/transport-node'

export interface BareJetStream {
  /** Milliseconds from the publish of `payload` to its arrival at the consumer. */
  roundTrip(payload: Buffer): Promise<number>
  close(): void
}

export async function bareJetStream(connection: NatsConnection): Promise<BareJetStream> {
  await (await jetstreamManager(connection)).streams.add({ name: 'BARE', subjects: ['bare.>'] })
  const js = jetstream(connection)
  const waiting = new Map<string, (at: number) => void>()
  const close = await consume(connection, 'BARE', (subject) => {
    waiting.get(subject)?.(performance.now())
    waiting.delete(subject)
  })
  let count = 0
  return {
    async roundTrip(payload) {
      const subject = `bare.${count++}`
      const arrived = new Promise<number>((resolve) => waiting.set(subject, resolve))
      const begin = performance.now()
      await js.publish(subject, payload)
      return (await arrived) - begin
    },
    close,
  }
}

/** Pulls and acknowledges everything of a stream. Returns how to end it. */
export async function consume(
  connection: NatsConnection,
  stream: string,
  onArrival: (subject: string) => void,
): Promise<() => void> {
  const manager = await jetstreamManager(connection)
  const { name } = await manager.consumers.add(stream, { durable_name: 'reader' })
  const messages = await (await jetstream(connection).consumers.get(stream, name)).consume({
    callback: (message) => {
      onArrival(message.subject)
      message.ack()
    },
  })
  return () => void messages.stop()
}
