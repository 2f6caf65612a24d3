/** Volumes in this worker's pool: committed from a running sandbox or from what its end left, reloaded, removed. */

import type { Task, TaskResult } from '#libs/contract'
import { Rejected, type VolumeId } from '#libs/domain'
import { failpoint } from '#libs/failpoint'
import type { LoggedVersion, Pool } from '#libs/storage'
import { expectRunning, type LiveSandbox, type LiveSandboxes, syncGuest } from './live-sandbox.js'

type Of<K extends Task['kind']> = Extract<Task, { kind: K }>

/** A message has 1 MiB; the syncer asks for the rest with a higher `afterVersion`. */
const VERSIONS_BYTES_MAX = 512 * 1024

/**
 * Makes a version and answers the log after the one that the syncer knows.
 *
 * @throws Rejected SANDBOX_NOT_RUNNING when the sandbox is gone and nothing was staged; INVALID_ARGUMENT for a mount
 *   that is not there or read-only; SandtrailError NOT_FOUND, DEADLINE_EXCEEDED, and all of `Pool.commitStaged`.
 */
export async function commitVolume(
  pool: Pool,
  sandboxes: LiveSandboxes,
  { volumeId, commitId, sandboxId, afterVersion }: Of<'commit-volume'>,
): Promise<TaskResult> {
  const log = await pool.volumeLog(volumeId, 0)
  if (!log.some((version) => version.commitId === commitId)) {
    const isStaged = await pool.isStaged(volumeId, commitId)
    if (sandboxId !== null && !isStaged) {
      const sandbox = expectRunning(sandboxes, sandboxId)
      await sandbox.lock(async () => {
        const running = expectRunning(sandboxes, sandboxId, sandbox.epoch)
        await syncGuest(running, 'DEADLINE_EXCEEDED')
        const slot = slotOf(running, volumeId)
        await pool.stageVolume({ volumeId, sandboxId, slot, commitId, trigger: 'commit' })
      })
    }
    failpoint('commit-staged')
    // What an ended sandbox staged and is not there any more made no version, because nothing had been written.
    if (sandboxId !== null || isStaged) await pool.commitStaged(volumeId, commitId)
    failpoint('commit-done')
  }
  return { kind: 'commit-volume', versions: fitting(await pool.volumeLog(volumeId, afterVersion)) }
}

/**
 * Gives a running sandbox the newest version. The new mount takes the old one's place at once; files that programs
 * hold open stay those of the old.
 */
export async function reloadVolume(
  pool: Pool,
  sandboxes: LiveSandboxes,
  guestSlots: string,
  { volumeId, sandboxId, epoch, reloadId }: Of<'reload-volume'>,
): Promise<TaskResult> {
  const sandbox = expectRunning(sandboxes, sandboxId, epoch)
  return sandbox.lock(async () => {
    const { running, spec, journal } = expectRunning(sandboxes, sandboxId, epoch)
    const mount = spec?.volumes.find((volume) => volume.volumeId === volumeId)
    const oldSlot = slotOf(sandbox, volumeId)
    const { fromVersion, toVersion, newSlot } = await pool.reloadVolume({
      volumeId,
      sandboxId,
      slot: oldSlot,
      reloadId,
    })
    if (newSlot !== oldSlot && mount) {
      const bind = { target: mount.path, readOnly: mount.readOnly, replace: true }
      try {
        await running.agent.bind({ source: `${guestSlots}/${newSlot}`, ...bind })
      } catch (error) {
        await running.agent.bind({ source: `${guestSlots}/${oldSlot}`, ...bind }).catch(() => {})
        await pool.dropSlot(sandboxId, newSlot)
        throw error
      }
      // From here on the end of the sandbox stages the new slot; the old one's uncommitted changes are given up.
      journal.append({ kind: 'slot', volumeId, slot: newSlot })
      await journal.sync()
      await pool.dropSlot(sandboxId, oldSlot)
    }
    return { kind: 'reload-volume', fromVersion, toVersion }
  })
}

export async function removeVolume(pool: Pool, { volumeId }: Of<'remove-volume'>): Promise<TaskResult> {
  await pool.removeVolume(volumeId)
  return { kind: 'remove-volume' }
}

function slotOf(sandbox: LiveSandbox, volumeId: VolumeId): string {
  const slot = sandbox.journal.state.slots.get(volumeId)
  if (slot === undefined) throw new Rejected('INVALID_ARGUMENT', `${volumeId} is not mounted in this sandbox`)
  return slot
}

function fitting(versions: LoggedVersion[]): LoggedVersion[] {
  let bytes = 0
  const fits = versions.findIndex((version) => {
    bytes += Buffer.byteLength(JSON.stringify(version))
    return bytes > VERSIONS_BYTES_MAX
  })
  // One alone always fits: what it lists is capped.
  return fits === -1 ? versions : versions.slice(0, Math.max(1, fits))
}
