/** From the answer to a command to its events at a consumer of `evt.`, against a bare JetStream publish to consume. */

import { randomBytes } from 'node:crypto'
import { bareJetStream } from './bare-jetstream.js'
import type { Client } from './client.js'
import { type Figure, figure } from './figure.js'

const COMMANDS = 200
/** Between two commands: the path is measured, not a queue. */
const PAUSE_MS = 20
const PAYLOAD_BYTES = 1024

export async function benchDelivery(client: Client): Promise<Figure[]> {
  const { sandboxId } = await client.command('sandbox.create', { timeoutMs: 600_000 })
  const committed = new Map<string, number>()
  const delays: number[] = []
  const stop = client.onEvents((subject) => {
    const [, , execId, type] = subject.split('.')
    const at = committed.get(execId ?? '')
    if (type === 'ExecRequested' && at !== undefined) delays.push(performance.now() - at)
    else if (type === 'ExecRequested') committed.set(execId ?? '', performance.now())
  })
  const bare = await bareJetStream()
  const roundTrips: number[] = []
  for (let i = 0; i < COMMANDS; i++) {
    const { execId } = await client.command('sandbox.exec', { sandboxId, argv: ['/bin/true'] })
    const earlier = committed.get(String(execId))
    // The event may be here before the answer: then nobody waited for it.
    if (earlier !== undefined) delays.push(0)
    else committed.set(String(execId), performance.now())
    roundTrips.push(await bare.roundTrip(randomBytes(PAYLOAD_BYTES)))
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
  }
  await new Promise((resolve) => setTimeout(resolve, 1_000))
  stop()
  await bare.close()
  await client.command('sandbox.terminate', { sandboxId })
  if (delays.length < COMMANDS) throw new Error(`${delays.length} of ${COMMANDS} events came`)
  const against = 'a bare JetStream publish to consume, p99'
  const baseline = quantile(roundTrips, 0.99)
  return [
    figure({
      name: 'commit to a consumer, p50',
      against,
      unit: 'ms',
      ours: quantile(delays, 0.5),
      baseline,
      target: null,
    }),
    figure({
      name: 'commit to a consumer, p99',
      against,
      unit: 'ms',
      ours: quantile(delays, 0.99),
      baseline,
      target: { atMost: 5 },
    }),
  ]
}

function quantile(values: number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))]!
}
