/** From a commit to its last event at a consumer of EVENTS, against a bare JetStream publish to consume: both at 1,000/s. */

import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { append, createSignerKey, loadSigner, Sequencer } from '#libs/event-store'
import { EVENTS, ensureStreams, publishEvents } from '#libs/messaging'
import { event, request, sandboxId } from '../libs/event-store/testing-requests.js'
import { eventually, startNats } from '../libs/messaging/testing.js'
import { bareJetStream, consume } from './bare-jetstream.js'
import type { Program } from './bench.js'
import { figure, paced, quantile } from './figure.js'
import { openStore } from './store.js'

const EVENTS_PER_SECOND = 1_000
/** As a create writes. */
const EVENTS_PER_APPEND = 2
/** Of an event on the wire, as a create's are. */
const PAYLOAD_BYTES = 1_024
const WARM_UP_SECONDS = 2

export const benchDelivery: Program = async ({ full }) => {
  const seconds = full ? 60 : 10
  const store = await openStore()
  const broker = await startNats()
  try {
    const messaging = await broker.connect()
    await ensureStreams(messaging)
    createSignerKey(join(store.dir, 'key'))
    const sequencer = new Sequencer({
      db: store.db,
      trailFile: join(store.dir, 'trail'),
      signer: loadSigner(join(store.dir, 'key'), 'bench'),
      publish: (events) => publishEvents(messaging, events),
    })
    sequencer.start()
    const arrived = new Map<string, number>()
    const stop = await consume(messaging.connection, EVENTS, (subject) => {
      const [stream, type] = subject.split('.').slice(-2)
      if (type === 'Placed') arrived.set(stream!, performance.now())
    })
    const committed = new Map<string, number>()
    const commit = async () => {
      const stream = sandboxId()
      const events = [event('Created', { text: 'x'.repeat(300) }), event('Placed')]
      await append(store.db, request({ writes: [{ stream, expectedVersion: 0, events }] }), () =>
        sequencer.nudge(),
      )
      committed.set(stream, performance.now())
    }
    const perSecond = EVENTS_PER_SECOND / EVENTS_PER_APPEND
    await paced(perSecond, WARM_UP_SECONDS, commit)
    committed.clear()
    await paced(perSecond, seconds, commit)
    await eventually(() => [...committed.keys()].every((stream) => arrived.has(stream)), 30_000)
    // An event may be there before its appender has heard of the commit: then nobody waited for it.
    const delays = [...committed].map(([stream, at]) => Math.max(0, arrived.get(stream)! - at))
    stop()
    await sequencer.stop()

    const bare = await bareJetStream(messaging.connection)
    const roundTrips: number[] = []
    const send = async () => {
      roundTrips.push(await bare.roundTrip(randomBytes(PAYLOAD_BYTES)))
    }
    await paced(EVENTS_PER_SECOND, WARM_UP_SECONDS, send)
    roundTrips.length = 0
    await paced(EVENTS_PER_SECOND, seconds, send)
    bare.close()

    const against = `a bare JetStream publish to consume at ${EVENTS_PER_SECOND}/s, p99`
    const baseline = quantile(roundTrips, 0.99)
    return [
      figure({
        name: `commit to a consumer, p50, ${EVENTS_PER_SECOND} events/s`,
        against,
        unit: 'ms',
        ours: quantile(delays, 0.5),
        baseline,
        target: null,
      }),
      figure({
        name: `commit to a consumer, p99, ${EVENTS_PER_SECOND} events/s`,
        against,
        unit: 'ms',
        ours: quantile(delays, 0.99),
        baseline,
        target: { atMost: 5 },
      }),
    ]
  } finally {
    await broker.close()
    await store.close()
  }
}
