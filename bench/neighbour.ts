/** One tenant at ten times its rate; what another one notices of it. */

import type { Program } from './bench.js'
import { openClient } from './client.js'
import { startFake } from './fake.js'
import { figure, median, paced, quantile, timed } from './figure.js'
import { cpuBetween, processesOf } from './usage.js'

const ALLOWED_PER_SECOND = 50
const TIMES = 10
const QUIET_PER_SECOND = 10

export const benchNeighbour: Program = async (bench) => {
  const seconds = bench.full ? 60 : 15
  const { system, client, stop } = await startFake(bench)
  const loudClients: Awaited<ReturnType<typeof openClient>>[] = []
  try {
    const limits = { commandsPerSecond: ALLOWED_PER_SECOND, commandsBurst: ALLOWED_PER_SECOND }
    await client.post('/v1/tenants', { tenant: 'loud', ...limits })
    const login = (await system.syncTenants()).loud!
    const loud = await openClient({ ...system.env, NATS_USER: login.user, NATS_PASSWORD: login.password })
    loudClients.push(loud)
    const theirs = await loud.command('sandbox.create', { timeoutMs: 3_600_000 })
    const ours = await client.command('sandbox.create', { timeoutMs: 3_600_000 })
    const shout = () =>
      loud
        .command('sandbox.exec', { sandboxId: theirs.sandboxId, argv: ['/bin/true'] })
        .catch((error: { code?: string }) => {
          if (error.code !== 'RESOURCE_EXHAUSTED') throw error
        })
    const exec = () =>
      client.command('sandbox.exec', { sandboxId: ours.sandboxId, argv: ['/bin/true'], waitMs: 60_000 })
    const measure = async () => {
      const delays: number[] = []
      await paced(QUIET_PER_SECOND, seconds, async () => {
        delays.push(await timed(exec))
      })
      return delays
    }
    await measure() // Warms everything.
    const solo = await measure()
    const before = processesOf(system.dir)
    const [beside] = await Promise.all([measure(), paced(ALLOWED_PER_SECOND * TIMES, seconds, shout)])
    const shares = [...cpuBetween(before, processesOf(system.dir), seconds * 1000)]
      .sort(([, a], [, b]) => b - a)
      .slice(0, 4)
      .map(([name, share]) => `${name} ${(share * 100).toFixed(0)} %`)
    const against = `the same with the neighbour silent; medians ${median(beside).toFixed(1)} and ${median(solo).toFixed(1)} ms; CPU beside: ${shares.join(', ')}`
    return [
      figure({
        name: `exec beside a tenant at ${TIMES}x its rate, p99`,
        against,
        unit: 'ms',
        ours: quantile(beside, 0.99),
        baseline: quantile(solo, 0.99),
        target: { atMost: 1.5 },
      }),
    ]
  } finally {
    for (const each of loudClients) await each.close()
    await stop()
  }
}
