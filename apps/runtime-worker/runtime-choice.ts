/** The runtime and the pool that the configuration asks for. Only the chosen driver is loaded. */

import { statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { SandtrailError } from '#libs/domain'
import type { Log } from '#libs/service'
import { Pool } from '#libs/storage'
import type { WorkerConfig } from './config.js'
import type { RuntimeDriver } from './runtime.js'

export interface Runtime {
  name: 'gvisor' | 'fake'
  driver: RuntimeDriver
  /** Null for the fake, which has neither images nor volumes. */
  pool: Pool | null
  /** Where a guest sees its directory of mount slots. */
  guestSlots: string
  disk(): Promise<{ totalBytes: number; freeBytes: number }>
  stop(): Promise<void>
}

export async function chooseRuntime(config: WorkerConfig, log: Log): Promise<Runtime> {
  return config.SANDTRAIL_RUNTIME === 'fake' ? fakeRuntime(config, log) : gvisorRuntime(config, log)
}

async function gvisorRuntime(config: WorkerConfig, log: Log): Promise<Runtime> {
  const { SANDTRAIL_POOL_DIR: poolDir, SANDTRAIL_RUNSC: runsc } = config
  if (!poolDir || !runsc) {
    throw new SandtrailError('INVALID_ARGUMENT', 'the gvisor runtime needs a pool and runsc', {
      hint: 'set SANDTRAIL_POOL_DIR and SANDTRAIL_RUNSC',
    })
  }
  const pool = await Pool.open(poolDir)
  const [{ GvisorDriver }, { GUEST }] = await Promise.all([
    import('./gvisor/driver.js'),
    import('./gvisor/bundle.js'),
  ])
  const driver = new GvisorDriver({
    runsc,
    platform: config.SANDTRAIL_RUNSC_PLATFORM,
    agentBinary: config.SANDTRAIL_AGENT,
    stateDir: config.SANDTRAIL_WORKER_STATE_DIR,
    instance: config.SANDTRAIL_INSTANCE,
    pool,
    network: {
      dnsUpstream: config.SANDTRAIL_DNS_UPSTREAM,
      refused: config.SANDTRAIL_REFUSED_NETWORKS ?? [],
      ...(config.SANDTRAIL_UPLINK_NETNS ? { hostNetns: config.SANDTRAIL_UPLINK_NETNS } : {}),
    },
    log,
  })
  return {
    name: 'gvisor',
    driver,
    pool,
    guestSlots: GUEST.slots,
    disk: async () => ({ ...(await diskOf(poolDir)), freeBytes: await pool.freeBytes() }),
    async stop() {
      await driver.stop()
      await pool.close()
    },
  }
}

async function fakeRuntime(config: WorkerConfig, log: Log): Promise<Runtime> {
  log.warn('the fake runtime isolates nothing: for load and simulation only')
  const stateDir = config.SANDTRAIL_WORKER_STATE_DIR
  const { FakeDriver } = await import('./fake/driver.js')
  const driver = new FakeDriver({ agentBinary: config.SANDTRAIL_AGENT, stateDir, log })
  return {
    name: 'fake',
    driver,
    pool: null,
    guestSlots: '',
    disk: () => diskOf(join(stateDir)),
    stop: () => driver.stop(),
  }
}

async function diskOf(path: string): Promise<{ totalBytes: number; freeBytes: number }> {
  const { blocks, bavail, bsize } = await statfs(path)
  return { totalBytes: blocks * bsize, freeBytes: bavail * bsize }
}
