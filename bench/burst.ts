/** 100 real sandboxes asked for at once: all of them start. */

import type { Program } from './bench.js'
import type { Client } from './client.js'
import { figure } from './figure.js'

const COUNT = 100
const PATIENCE_MS = 300_000

export const benchBurst: Program = async ({ start }) => {
  const { client, stop } = await start({ environment: { SANDTRAIL_MEMORY_BYTES: String(64 * 1024 ** 3) } })
  try {
    const started = new Set<string>()
    const over = new Set<string>()
    const unsubscribe = client.onEvents((subject) => {
      const [id, type] = subject.split('.').slice(-2) as [string, string]
      if (type === 'SandboxStarted') started.add(id)
      if (/^Sandbox(Failed|Lost|Terminated|TimedOut|Finished)$/.test(type)) over.add(id)
    })
    const begin = performance.now()
    const ids = await Promise.all(
      Array.from({ length: COUNT }, async () => {
        const body = { timeoutMs: 3_600_000, memoryBytes: 64 * 1024 ** 2, diskBytes: 1024 ** 2 }
        return String((await client.command('sandbox.create', body)).sandboxId)
      }),
    )
    const acceptedMs = performance.now() - begin
    while (ids.some((id) => !started.has(id) && !over.has(id)) && performance.now() - begin < PATIENCE_MS) {
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    const tookMs = performance.now() - begin
    await Promise.all(ids.map((sandboxId) => client.command('sandbox.terminate', { sandboxId })))
    while (ids.some((id) => !over.has(id)) && performance.now() - begin < 2 * PATIENCE_MS) {
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    unsubscribe()
    await tellWhy(
      client,
      ids.filter((id) => !started.has(id)),
    )
    return [
      figure({
        name: `burst of ${COUNT} creates: started`,
        against: 'of those that were asked for',
        unit: 'sandboxes',
        ours: started.size,
        baseline: COUNT,
        target: { atLeast: 1 },
      }),
      figure({
        name: 'the last of them ready after',
        against: `all accepted after ${acceptedMs.toFixed(0)} ms`,
        unit: 'ms',
        ours: tookMs,
        baseline: null,
        target: { atMost: 15_000 },
      }),
    ]
  } finally {
    await stop()
  }
}

async function tellWhy(client: Client, sandboxIds: string[]): Promise<void> {
  const reasons = new Map<string, number>()
  for (const id of sandboxIds) {
    const { reason } = (await (await client.fetch(`/v1/sandboxes/${id}`)).json()) as { reason: string }
    reasons.set(reason, (reasons.get(reason) ?? 0) + 1)
  }
  for (const [reason, count] of reasons) console.error(`${count} did not start: ${reason}`)
}
