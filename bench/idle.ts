/** Many sandboxes in which nothing happens: what each of them, and all of the system, costs. */

import { setTimeout as delay } from 'node:timers/promises'
import { tools } from '../scripts/system/tools.mjs'
import type { Program } from './bench.js'
import { byHand } from './by-hand.js'
import { figure } from './figure.js'
import { cpuBetween, memoryOf, processesOf } from './usage.js'

const MIB = 1024 ** 2
const SETTLE_MS = 15_000

export const benchIdle: Program = async ({ start, full }) => {
  const count = full ? 200 : 40
  const { system, client, stop } = await start({
    environment: { SANDTRAIL_MEMORY_BYTES: String(64 * 1024 ** 3) },
  })
  const { SANDTRAIL_RUNSC = '', SANDTRAIL_RUNSC_PLATFORM = '', SANDTRAIL_BASE_IMAGE = '' } = tools()
  const hand = await byHand(SANDTRAIL_RUNSC, SANDTRAIL_RUNSC_PLATFORM, SANDTRAIL_BASE_IMAGE)
  try {
    const named = (isSandbox: boolean) =>
      processesOf(system.dir).filter(({ name }) => (name === 'sandbox') === isSandbox)
    // Heaps that have grown once stay: the first sandboxes pay for what the later ones use too.
    const body = { timeoutMs: 3_600_000, memoryBytes: 64 * MIB, diskBytes: MIB }
    const create = async () => {
      const { sandboxId } = await client.command('sandbox.create', body)
      await client.command('sandbox.exec', { sandboxId, argv: ['/bin/true'], waitMs: 60_000 })
    }
    const createMany = async (n: number) => {
      for (let left = n; left > 0; left -= 4)
        await Promise.all(Array.from({ length: Math.min(4, left) }, create))
    }
    await createMany(8)
    await delay(SETTLE_MS)
    const few = memoryOf(named(false))
    await createMany(count - 8)
    await delay(SETTLE_MS)
    const many = memoryOf(named(false))
    const sandboxes = named(true)
    const each = memoryOf(sandboxes) / count / MIB
    const own = memoryOf(processesOf(hand.dir)) / MIB

    const before = processesOf(system.dir)
    const seconds = full ? 60 : 20
    await delay(seconds * 1_000)
    const shares = cpuBetween(before, processesOf(system.dir), seconds * 1_000)
    const percent = [...shares.values()].reduce((sum, share) => sum + share) * 100
    const parts = [...shares]
      .sort(([, a], [, b]) => b - a)
      .map(([name, share]) => `${name} ${(share * 100).toFixed(2)}`)
    return [
      figure({
        name: `memory of each of ${count} idle sandboxes, above runsc`,
        against: `${each.toFixed(1)} MiB, and ${own.toFixed(1)} of runsc with a sleep by hand; ${sandboxes.length} processes`,
        unit: 'MiB',
        ours: each - own,
        baseline: null,
        target: { atMost: 3 },
      }),
      figure({
        name: 'and in services, servers included',
        against: `from 8 to ${count} sandboxes: ${(few / MIB).toFixed(0)} to ${(many / MIB).toFixed(0)} MiB`,
        unit: 'MiB',
        ours: (many - few) / (count - 8) / MIB,
        baseline: null,
        target: { atMost: 1 },
      }),
      figure({
        name: `idle CPU of the system with ${count} sandboxes`,
        against: parts.join(', '),
        unit: '% of a core',
        ours: percent,
        baseline: null,
        target: { atMost: 3 },
      }),
    ]
  } finally {
    await hand.remove()
    await stop()
  }
}
