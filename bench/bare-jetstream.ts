/** A broker by itself: one stream in files, one consumer. The baseline of what ours adds to a delivery. */

import { jetstream, jetstreamManager } from '@nats-io/jetstream'
import { startNats } from '../libs/messaging/testing.js'

export interface BareJetStream {
  /** Milliseconds from the publish of `payload` to its arrival at the consumer. */
  roundTrip(payload: Buffer): Promise<number>
  close(): Promise<void>
}

export async function bareJetStream(): Promise<BareJetStream> {
  const server = await startNats()
  const { connection } = await server.connect()
  const manager = await jetstreamManager(connection)
  await manager.streams.add({ name: 'BARE', subjects: ['bare.>'] })
  await manager.consumers.add('BARE', { durable_name: 'reader' })
  const js = jetstream(connection)
  const messages = await (await js.consumers.get('BARE', 'reader')).consume()
  const arrivals = messages[Symbol.asyncIterator]()
  return {
    async roundTrip(payload) {
      const begin = performance.now()
      const [arrival] = await Promise.all([arrivals.next(), js.publish('bare.one', payload)])
      const tookMs = performance.now() - begin
      arrival.value?.ack()
      return tookMs
    },
    // Not the messages: their end is reached only by whoever reads on.
    close: () => server.close(),
  }
}
