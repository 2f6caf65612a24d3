/** Images in this worker's pool: brought from the blob store, made of a sandbox's root, removed. */

import type { Task, TaskResult } from '#libs/contract'
import { SandtrailError } from '#libs/domain'
import { failpoint } from '#libs/failpoint'
import type { Pool } from '#libs/storage'
import { expectRunning, type LiveSandboxes, syncGuest } from './live-sandbox.js'

type Of<K extends Task['kind']> = Extract<Task, { kind: K }>

/** Unpacking has a limit of its own; this one is for a server that sends nothing more. */
const DOWNLOAD_MS_MAX = 900_000

/**
 * What the guest had written before the request is in the image. The sandbox's lock keeps its end from overtaking.
 *
 * @throws Rejected SANDBOX_NOT_RUNNING; SandtrailError SNAPSHOT_FAILED when the guest does not sync.
 */
export async function takeSnapshot(
  pool: Pool,
  sandboxes: LiveSandboxes,
  { sandboxId, epoch, imageId }: Of<'snapshot'>,
): Promise<TaskResult> {
  const startedMs = performance.now()
  const tookMs = () => Math.round(performance.now() - startedMs)
  if (await pool.hasImage(imageId)) return { kind: 'snapshot', tookMs: tookMs() }
  const sandbox = expectRunning(sandboxes, sandboxId, epoch)
  await sandbox.lock(async () => {
    await syncGuest(expectRunning(sandboxes, sandboxId, epoch), 'SNAPSHOT_FAILED')
    failpoint('snapshot-synced')
    await pool.snapshotRoot(sandboxId, imageId)
    failpoint('snapshot-taken')
  })
  return { kind: 'snapshot', tookMs: tookMs() }
}

/** @throws SandtrailError UNAVAILABLE when the blob cannot be fetched now, and all of `Pool.importImage`. */
export async function importImage(
  pool: Pool,
  { imageId, url, sha256, bytes }: Of<'import-image'>,
): Promise<TaskResult> {
  if (!(await pool.hasImage(imageId))) {
    await pool.importImage(imageId, await download(url), { sha256, bytes })
  }
  return { kind: 'import-image' }
}

export async function removeImage(pool: Pool, { imageId }: Of<'remove-image'>): Promise<TaskResult> {
  await pool.removeImage(imageId)
  return { kind: 'remove-image' }
}

/** The URL is a credential, so no error tells it. */
async function download(url: string): Promise<AsyncIterable<Uint8Array>> {
  let response: Response
  try {
    response = await fetch(url, { redirect: 'error', signal: AbortSignal.timeout(DOWNLOAD_MS_MAX) })
  } catch (cause) {
    throw new SandtrailError('UNAVAILABLE', 'the blob store cannot be reached', { cause })
  }
  if (response.ok && response.body) return response.body
  await response.body?.cancel()
  if (response.status === 404)
    throw new SandtrailError('NOT_FOUND', 'the blob store does not have the archive')
  throw new SandtrailError('UNAVAILABLE', `the blob store answered with status ${response.status}`)
}
