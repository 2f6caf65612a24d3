/** Keeps what a sandbox wrote to its volumes, before the fact of its end: `staged` is what the syncer makes versions of. */

import { setTimeout as delay } from 'node:timers/promises'
import { Rejected, type StagedVolume, type VolumeMount } from '#libs/domain'
import type { Pool } from '#libs/storage'
import type { Sandbox } from './sandbox.js'

const RETRY_MS_MIN = 200
const RETRY_MS_MAX = 10_000
/** A guest may have moved its mount away: an end must not wait for that for ever. */
const GIVE_UP_MS = 120_000

/** Idempotent: the commit's id follows from sandbox, epoch and volume. */
export async function stageVolumes(pool: Pool, sandbox: Sandbox): Promise<StagedVolume[]> {
  const staged: StagedVolume[] = []
  for (const { volumeId } of writableVolumes(sandbox)) {
    const commitId = `${sandbox.sandboxId}.${sandbox.epoch}.${volumeId}`
    if (await stageOne(pool, sandbox, volumeId, commitId)) staged.push({ volumeId, commitId })
  }
  return staged
}

/** Those of which something may be kept. */
export function writableVolumes({ spec }: Pick<Sandbox, 'spec'>): VolumeMount[] {
  return spec?.volumes.filter(({ readOnly, version }) => !readOnly && version === null) ?? []
}

async function stageOne(
  pool: Pool,
  { sandboxId, journal, log }: Sandbox,
  volumeId: VolumeMount['volumeId'],
  commitId: string,
): Promise<boolean> {
  const slot = journal.state.slots.get(volumeId)
  if (slot === undefined) return false
  const giveUpAt = performance.now() + GIVE_UP_MS
  for (let failures = 0; ; failures++) {
    try {
      await pool.stageVolume({ volumeId, sandboxId, slot, commitId, trigger: 'sandbox-end' })
      return true
    } catch (err) {
      log.error({ err, volumeId, slot }, 'volume could not be staged')
      if (err instanceof Rejected || performance.now() > giveUpAt) return false
      await delay(Math.min(RETRY_MS_MIN * 2 ** failures, RETRY_MS_MAX))
    }
  }
}
