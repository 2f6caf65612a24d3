/** A tenant that sends ten times what it may: refused at once, by type, and nothing accepted is lost. */

import { openDatabase } from '#libs/event-store'
import type { Program } from './bench.js'
import { startFake } from './fake.js'
import { figure, paced, quantile } from './figure.js'
import { memoryOf } from './usage.js'

const ALLOWED_PER_SECOND = 50
const TIMES = 10

interface Refusal {
  code?: string
  retryAfterMs?: number
}

export const benchOverload: Program = async (bench) => {
  const seconds = bench.full ? 60 : 10
  const { system, client, stop } = await startFake(bench)
  try {
    const { sandboxId } = await client.command('sandbox.create', { timeoutMs: 3_600_000 })
    const exec = (waitMs: number) =>
      client.command('sandbox.exec', { sandboxId, argv: ['/bin/true'], waitMs })
    for (let i = 0; i < 20; i++) await exec(60_000)
    await client.fetch('/v1/tenants/default', {
      method: 'PATCH',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ commandsPerSecond: ALLOWED_PER_SECOND, commandsBurst: ALLOWED_PER_SECOND }),
    })
    // A changed limit holds within 5 s (docs/tenants.md).
    await new Promise((resolve) => setTimeout(resolve, 6_000))

    const services = () => system.services().filter(({ name }) => name !== 'postgres' && name !== 'nats')
    const idle = memoryOf(services())
    const refusedAfter: number[] = []
    const accepted: string[] = []
    const wrong = new Map<string, number>()
    await paced(ALLOWED_PER_SECOND * TIMES, seconds, async () => {
      const begin = performance.now()
      try {
        accepted.push(String((await exec(0)).execId))
      } catch (error) {
        const { code, retryAfterMs } = error as Refusal
        const isTyped = code === 'RESOURCE_EXHAUSTED' && typeof retryAfterMs === 'number'
        if (isTyped) refusedAfter.push(performance.now() - begin)
        else wrong.set(String(error), (wrong.get(String(error)) ?? 0) + 1)
      }
    })
    const busy = memoryOf(services())
    for (const [text, count] of wrong) console.error(`${count} x ${text}`)
    const lost = await unended(system.env.DATABASE_ADMIN_URL!, accepted)
    const all = refusedAfter.length + accepted.length + [...wrong.values()].reduce((sum, n) => sum + n, 0)
    return [
      figure({
        name: `${TIMES}x overload for ${seconds} s: refused within, p99`,
        against: `${refusedAfter.length} refused, ${accepted.length} accepted, p50 ${quantile(refusedAfter, 0.5).toFixed(1)} ms`,
        unit: 'ms',
        ours: quantile(refusedAfter, 0.99),
        baseline: null,
        target: { atMost: 100 },
      }),
      figure({
        name: 'answered: accepted, or RESOURCE_EXHAUSTED and when',
        against: 'of all',
        unit: 'commands',
        ours: refusedAfter.length + accepted.length,
        baseline: all,
        target: { atLeast: 1 },
      }),
      figure({
        name: 'accepted, and without an end after 30 s',
        against: `of ${accepted.length}`,
        unit: 'execs',
        ours: lost,
        baseline: null,
        target: { atMost: 0 },
      }),
      figure({
        name: 'memory of the services',
        against: 'the same before',
        unit: 'MiB',
        ours: busy / 1024 ** 2,
        baseline: idle / 1024 ** 2,
        target: { atMost: 1.5 },
      }),
    ]
  } finally {
    await stop()
  }
}

/** How many of these execs have no terminal event, once there is none or 30 s have passed. */
async function unended(url: string, execIds: string[]): Promise<number> {
  const db = openDatabase({ url, max: 1 })
  const giveUpAt = performance.now() + 30_000
  for (;;) {
    const { rows } = await db.query<{ n: number }>(
      `select count(*)::integer as n from events
       where stream = any($1) and type in ('ExecExited', 'ExecFailed', 'ExecLost')`,
      [execIds],
    )
    const left = execIds.length - rows[0]!.n
    if (left === 0 || performance.now() > giveUpAt) {
      await db.end()
      return left
    }
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
}
