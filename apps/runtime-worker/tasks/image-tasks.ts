/** Images in this worker's pool: brought from the blob store, made of a sandbox's root, removed. */

import type { IncomingMessage } from 'node:http'
import type { Task, TaskResult } from '#libs/contract'
import { SandtrailError } from '#libs/domain'
import { failpoint } from '#libs/failpoint'
import { httpGet } from '#libs/service'
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

/**
 * `ca`: PEM of the authority that counts for the gateway's certificate; undefined: the system's.
 *
 * @throws SandtrailError UNAVAILABLE or TLS_FAILED when the blob cannot be fetched now, and all of `Pool.importImage`.
 */
export async function importImage(
  pool: Pool,
  { imageId, url, sha256, bytes }: Of<'import-image'>,
  ca?: string,
): Promise<TaskResult> {
  if (!(await pool.hasImage(imageId))) {
    await pool.importImage(imageId, await download(url, ca), { sha256, bytes })
  }
  return { kind: 'import-image' }
}

export async function removeImage(pool: Pool, { imageId }: Of<'remove-image'>): Promise<TaskResult> {
  await pool.removeImage(imageId)
  return { kind: 'remove-image' }
}

/** The URL is a credential, so no error tells it. */
async function download(url: string, ca: string | undefined): Promise<AsyncIterable<Uint8Array>> {
  let response: IncomingMessage
  try {
    response = await httpGet(url, { ca, timeoutMs: DOWNLOAD_MS_MAX })
  } catch (cause) {
    if (cause instanceof SandtrailError) throw cause
    throw new SandtrailError('UNAVAILABLE', 'the blob store cannot be reached', { cause })
  }
  if (response.statusCode === 200) return response
  response.destroy()
  if (response.statusCode === 404)
    throw new SandtrailError('NOT_FOUND', 'the blob store does not have the archive')
  throw new SandtrailError('UNAVAILABLE', `the blob store answered with status ${response.statusCode}`)
}
