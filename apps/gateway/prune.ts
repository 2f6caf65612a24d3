/**
 * Removes what is kept for a time only, or tells what it would: commands that have long expired, blobs that no image needs,
 * and on the workers output of ended execs and tombstones. Each part does it by itself too, hourly or more often; this is
 * for whoever wants to know, or not to wait. What the trail is made of is never pruned.
 */

import { Rejected, SandtrailError } from '#libs/domain'
import { countPurgeable, listWorkers, purgeCommands, type Queryable } from '#libs/event-store'
import { askWorker } from '#libs/pool-tasks'
import type { StoredBlob } from '#libs/storage'
import type { Gateway } from './gateway.js'

export interface PruneReport {
  dryRun: boolean
  commands: { rows: number }
  blobs: { count: number; bytes: number }
  workers: {
    workerId: string
    execs: number
    bytes: number
    tombstones: number
    /** Why it is not known; null: it is. */
    error: string | null
  }[]
}

const HOUR_MS = 3_600_000
/** It walks over its spool; of one that does not answer that is told. */
const WORKER_MS = 60_000

export async function prune(gateway: Gateway, dryRun: boolean): Promise<PruneReport> {
  const { db } = gateway
  const [rows, blobs, workers] = await Promise.all([
    dryRun ? countPurgeable(db) : purgeCommands(db),
    pruneBlobs(gateway, dryRun),
    pruneWorkers(gateway, dryRun),
  ])
  return { dryRun, commands: { rows }, blobs, workers }
}

/** Every hour, and once at the start. */
export function startBlobJanitor(gateway: Gateway): { stop(): void } {
  const tidy = () =>
    pruneBlobs(gateway, false).catch((err) => {
      gateway.log.warn({ err }, 'blobs were not tidied up, tried again in an hour')
    })
  void tidy()
  const timer = setInterval(tidy, HOUR_MS)
  return { stop: () => clearInterval(timer) }
}

const NEEDED = `
  -- A ready image too: a worker that joins fetches it.
  select distinct source ->> 'sha256' as sha256
  from images
  where state in ('importing', 'ready') and source ->> 'kind' = 'import'
`

/** What is young may be about to be imported: an import touches its blob, and the list of images may be a moment late. */
async function pruneBlobs(
  { db, blobs, blobKeepMs, log }: Pick<Gateway, 'blobs' | 'blobKeepMs' | 'log'> & { db: Queryable },
  dryRun: boolean,
): Promise<PruneReport['blobs']> {
  const olderThan = Date.now() - blobKeepMs
  const old: StoredBlob[] = []
  for await (const blob of blobs.list()) if (blob.touchedAtMs < olderThan) old.push(blob)
  if (old.length === 0) return { count: 0, bytes: 0 }
  const { rows } = await db.query<{ sha256: string }>(NEEDED)
  const needed = new Set(rows.map(({ sha256 }) => sha256))
  const removable = old.filter(({ sha256 }) => sha256 === null || !needed.has(sha256))
  for (const blob of dryRun ? [] : removable) {
    await blobs.remove(blob)
    log.info({ sha256: blob.sha256, bytes: blob.bytes }, 'a blob that no image needs was removed')
  }
  return { count: removable.length, bytes: removable.reduce((sum, { bytes }) => sum + bytes, 0) }
}

async function pruneWorkers({ db, messaging }: Gateway, dryRun: boolean): Promise<PruneReport['workers']> {
  const signal = AbortSignal.timeout(WORKER_MS)
  const workers = (await listWorkers(db)).filter(({ state }) => state !== 'lost')
  return Promise.all(
    workers.map(async ({ workerId }) => {
      try {
        const task = { kind: 'prune' as const, dryRun }
        const { kind: _, ...result } = await askWorker<'prune'>(messaging, workerId, task, {
          signal,
          patienceMs: 0,
        })
        return { workerId, ...result, error: null }
      } catch (error) {
        if (!(error instanceof SandtrailError || error instanceof Rejected)) throw error
        return { workerId, execs: 0, bytes: 0, tombstones: 0, error: error.message }
      }
    }),
  )
}
