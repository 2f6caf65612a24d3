import { SandtrailError } from '#libs/domain'
import { Api, path, patiently, pause } from '../api.js'
import { chooseFormat, type Format, printJson, printLine, printTable, progress } from '../print.js'
import type { Worker } from '../types.js'

const LOOK_MS = 1_000

export async function listWorkers(flags: { output?: Format }): Promise<void> {
  const format = chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const { workers } = await api.json<{ workers: Worker[] }>('GET', '/v1/workers')
  api.close()
  if (format === 'json') return printJson(workers)
  printTable(
    ['WORKER', 'STATE', 'HOST', 'SANDBOXES', 'CPU FREE', 'MEMORY FREE', 'POOL FREE', 'HEARD'],
    workers.map(
      ({ workerId, state, hostname, sandboxes, capacity, reserved, poolFreeBytes, heartbeatAgeMs }) => [
        workerId,
        state,
        hostname ?? '-',
        String(sandboxes),
        // By its own capacity; the scheduler promises CPU several times.
        `${((capacity.cpuMillis - reserved.cpuMillis) / 1000).toFixed(1)} of ${capacity.cpuMillis / 1000}`,
        gib(capacity.memoryBytes - reserved.memoryBytes),
        gib(poolFreeBytes),
        `${(heartbeatAgeMs / 1000).toFixed(0)}s ago`,
      ],
    ),
  )
}

export async function cordon(workerId: string, flags: { reason?: string }): Promise<void> {
  await send(workerId, 'cordon', { reason: flags.reason ?? null })
  printLine(workerId)
}

export async function uncordon(workerId: string): Promise<void> {
  await send(workerId, 'uncordon', {})
  printLine(workerId)
}

/** Ends when the worker is empty. Letting go of it stops nothing: the drain is the scheduler's. */
export async function drain(
  workerId: string,
  flags: { timeout?: number; reason?: string; wait: boolean },
): Promise<void> {
  await send(workerId, 'drain', { reason: flags.reason ?? null, timeoutMs: flags.timeout ?? null })
  if (flags.wait) await untilDrained(workerId)
  printLine(workerId)
}

async function untilDrained(workerId: string): Promise<void> {
  const api = Api.fromEnvironment()
  let before: number | null = null
  for (;;) {
    const { state, sandboxes, drainDeadline } = await patiently(() =>
      api.json<Worker>('GET', path`/v1/workers/${workerId}`),
    )
    if (state === 'drained') break
    if (state === 'active' || state === 'cordoned') {
      throw new SandtrailError('STREAM_BUSY', `somebody ended the drain of ${workerId}: it is ${state}`, {
        hint: `see \`sandtrail history ${workerId}\``,
      })
    }
    if (sandboxes !== before) {
      const limit = drainDeadline === null ? '' : `, until ${drainDeadline}`
      progress(`${sandboxes} sandbox${sandboxes === 1 ? '' : 'es'} left${limit}`)
    }
    before = sandboxes
    await pause(LOOK_MS)
  }
  api.close()
}

async function send(workerId: string, verb: 'cordon' | 'uncordon' | 'drain', json: object): Promise<void> {
  const api = Api.fromEnvironment()
  await api.json('POST', `${path`/v1/workers/${workerId}`}/${verb}`, { json, command: true })
  api.close()
}

function gib(bytes: number): string {
  return `${(bytes / 1024 ** 3).toFixed(1)} GiB`
}
