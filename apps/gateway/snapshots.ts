/** A filesystem snapshot as one call: it answers when the image is there, or tells why there is none. */

import type { Accepted } from '#libs/contract'
import { fromErrorBody, SandtrailError, type SnapshotEvent } from '#libs/domain'
import { readStream } from '#libs/event-store'
import { type Origin, sendCommand } from './commands.js'
import type { Gateway } from './gateway.js'

/** The snapshot's own deadline is 60 s; the rest is for the event that tells of it. */
const WAIT_MS = 75_000

export interface SnapshotMade extends Accepted {
  snapshotId: string
  imageId: string
  tookMs: number
}

/**
 * @throws Rejected SNAPSHOT_FAILED or the code that the worker gave
 * @throws SandtrailError DEADLINE_EXCEEDED when its end was not seen in time; it may still come
 */
export async function createSnapshot(
  { db, messaging, waiter }: Gateway,
  origin: Origin,
  sandboxId: string,
  signal: AbortSignal,
): Promise<SnapshotMade> {
  const { accepted } = await sendCommand(messaging, origin, 'snapshot.create', { sandboxId })
  const snapshotId = accepted.snapshotId ?? accepted.stream
  await waiter.until(snapshotId, ['SnapshotCompleted', 'SnapshotFailed'], { timeoutMs: WAIT_MS, signal })
  const events = (await readStream(db, snapshotId)) as unknown as SnapshotEvent[]
  for (const event of events) {
    if (event.type === 'SnapshotCompleted') return { ...accepted, snapshotId, ...event.data }
    if (event.type === 'SnapshotFailed') {
      const { code, message } = event.data
      throw fromErrorBody({ code: code as never, message, hint: null, retryable: false })
    }
  }
  throw new SandtrailError('DEADLINE_EXCEEDED', `snapshot ${snapshotId} is not complete yet`, {
    hint: 'send the request again with the same Idempotency-Key to go on waiting',
  })
}
