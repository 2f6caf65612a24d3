/** 50 sandboxes a second through the whole control plane: create, exec, end. On the fake runtime. */

import type { Program } from './bench.js'
import { startFake } from './fake.js'
import { figure, paced, quantile } from './figure.js'
import { cpuBetween, memoryOf, processesOf } from './usage.js'

const CREATES_PER_SECOND = 50
const MIB = 1024 ** 2
/** Of all services together, from a quarter of the time on: heaps breathe, a leak of 10 KiB a sandbox is above it. */
const GROWTH_MIB_MAX = 64

export const benchLoad: Program = async (bench) => {
  const seconds = bench.full ? 120 : 20
  const { system, client, stop } = await startFake(bench)
  try {
    const services = () => system.services().filter(({ name }) => name !== 'postgres' && name !== 'nats')
    const accepts: number[] = []
    const failures = new Map<string, number>()
    let ended = 0
    const life = async () => {
      try {
        const begin = performance.now()
        const { sandboxId } = await client.command('sandbox.create', { timeoutMs: 600_000, diskBytes: MIB })
        accepts.push(performance.now() - begin)
        const exec = { sandboxId, argv: ['/bin/true'], waitMs: 60_000 }
        const { exec: done } = await client.command('sandbox.exec', exec)
        if ((done as { exitCode?: number } | null)?.exitCode !== 0)
          throw new Error('the exec did not end well')
        await client.command('sandbox.terminate', { sandboxId })
        ended++
      } catch (error) {
        const { code = 'no code', message } = error as Error & { code?: string }
        const text = `${code}: ${message}`
        failures.set(text, (failures.get(text) ?? 0) + 1)
      }
    }
    await paced(CREATES_PER_SECOND, seconds / 4, life)
    const memory = memoryOf(services())
    const before = processesOf(system.dir)
    const begin = performance.now()
    await paced(CREATES_PER_SECOND, (seconds * 3) / 4, life)
    const tookMs = performance.now() - begin
    const parts = partsOf(cpuBetween(before, processesOf(system.dir), CREATES_PER_SECOND * seconds * 0.75))
    const growth = (memoryOf(services()) - memory) / MIB
    for (const [text, count] of failures) console.error(`${count} x ${text}`)
    const total = CREATES_PER_SECOND * seconds
    return [
      figure({
        name: `${CREATES_PER_SECOND} creates/s for ${seconds} s, fake runtime: done`,
        against: 'of those that were begun',
        unit: 'sandboxes',
        ours: ended,
        baseline: total,
        target: { atLeast: 1 },
      }),
      figure({
        name: 'the rate that it came to',
        against: `asked for; CPU ms of each sandbox (create, exec, end): ${parts}`,
        unit: '/s',
        ours: (CREATES_PER_SECOND * seconds * 0.75) / (tookMs / 1000),
        baseline: CREATES_PER_SECOND,
        target: { atLeast: 0.95 },
      }),
      figure({
        name: 'create accepted, p99',
        against: `p50 ${quantile(accepts, 0.5).toFixed(1)} ms`,
        unit: 'ms',
        ours: quantile(accepts, 0.99),
        baseline: null,
        target: null,
      }),
      figure({
        name: 'memory of the services grew by',
        against: `since a quarter of the time, ${(memory / MIB).toFixed(0)} MiB`,
        unit: 'MiB',
        ours: growth,
        baseline: null,
        target: { atMost: GROWTH_MIB_MAX },
      }),
    ]
  } finally {
    await stop()
  }
}

/** What used most: `cpuBetween` was given a count for its time, so these are milliseconds of CPU for each sandbox. */
function partsOf(shares: Map<string, number>): string {
  return [...shares]
    .sort(([, a], [, b]) => b - a)
    .slice(0, 7)
    .map(([name, ms]) => `${name} ${ms.toFixed(1)}`)
    .join(', ')
}
