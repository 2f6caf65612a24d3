/**
 * A whole system whose worker runs the fake runtime: the agent as a plain process of this host, without isolation. It
 * shows what the control plane bears, and nothing of what a sandbox costs. Never for untrusted code.
 */

import { PLATFORM_TENANT, type WorkerId } from '#libs/domain'
import { openDatabase } from '#libs/event-store'
import { importedImage } from '../apps/scheduler/testing.js'
import type { Bench } from './bench.js'

const TIB = 1024 ** 4

export async function startFake(bench: Bench) {
  const own = await bench.start({
    baseImage: false,
    environment: {
      SANDTRAIL_RUNTIME: 'fake',
      // Nothing is reserved on the host: the load is to be refused for nothing but its rate.
      SANDTRAIL_MEMORY_BYTES: String(TIB),
      SANDTRAIL_CPU_MILLIS: '1000000',
    },
  })
  const response = await own.client.fetch('/v1/workers')
  const { workers } = (await response.json()) as { workers: { workerId: WorkerId }[] }
  const ids = workers.map(({ workerId }) => workerId)
  // The fake has no pool that an import could fill, so the image is recorded as if it had.
  const pool = openDatabase({ url: own.system.env.DATABASE_ADMIN_URL!, max: 1 })
  await importedImage({ pool }, 'base:latest', ids, PLATFORM_TENANT)
  await pool.end()
  return own
}
