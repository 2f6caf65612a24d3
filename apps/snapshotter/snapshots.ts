/** Snapshots under way: a durable timer from the acceptance until the end, as for imports. */

import { handleCommand, record, runTask } from '#libs/command-handling'
import {
  decideImage,
  decideSnapshot,
  imageAggregate,
  Rejected,
  SandtrailError,
  SNAPSHOT_DEADLINE_MS,
  type Snapshot,
  type SnapshotId,
  snapshotAggregate,
  toErrorBody,
} from '#libs/domain'
import { derivedCommandId, type FiredTimer, load, type StreamWrite, type TimerToSet } from '#libs/event-store'
import type { Snapshotter } from './context.js'
import { removalTimer } from './remove-image.js'
import { systemCommand } from './system-command.js'

export const SNAPSHOT_TIMER = 'snapshot'

type Requested = Exclude<Snapshot, { status: 'absent' }>

/** Fires at once. */
export function snapshotTimer(snapshotId: SnapshotId): TimerToSet {
  const payload = { snapshotId, deadlineAt: Date.now() + SNAPSHOT_DEADLINE_MS }
  return { key: `${snapshotId}:take`, afterMs: 0, kind: SNAPSHOT_TIMER, payload }
}

/** Throws for what may pass: the timer comes back. */
export async function driveSnapshot(
  snapshotter: Snapshotter,
  { tenant, payload }: FiredTimer,
): Promise<void> {
  const { snapshotId, deadlineAt } = payload as { snapshotId: SnapshotId; deadlineAt: number }
  const { state } = await load(snapshotter.db, snapshotAggregate, snapshotId, { tenant })
  if (state.status !== 'requested') return
  const { sandboxId, epoch, imageId, workerId } = state
  try {
    const task = { kind: 'snapshot' as const, tenant, sandboxId, epoch, imageId }
    const { tookMs } = await runTask(snapshotter.messaging, workerId, task, SNAPSHOT_DEADLINE_MS)
    await complete(snapshotter, tenant, snapshotId, state, tookMs)
  } catch (error) {
    const final = error instanceof Rejected || (error instanceof SandtrailError && !error.retryable)
    if (!final && Date.now() <= deadlineAt) throw error
    await fail(snapshotter, tenant, snapshotId, state, error)
  }
}

/** The snapshot's end and its image's beginning are one append: neither is ever there without the other. */
async function complete(
  snapshotter: Snapshotter,
  tenant: string,
  snapshotId: SnapshotId,
  { sandboxId, workerId, imageId, parent }: Requested,
  tookMs: number,
): Promise<void> {
  const id = derivedCommandId('snapshot-completed', snapshotId)
  await handleCommand(
    snapshotter,
    systemCommand(tenant, 'snapshot.complete', id, { snapshotId }),
    async () => {
      const snapshot = await load(snapshotter.db, snapshotAggregate, snapshotId, { tenant })
      const completed = decideSnapshot(snapshot.state, { type: 'CompleteSnapshot', tookMs })
      const writes = [{ stream: snapshotId, expectedVersion: snapshot.version, events: record(completed) }]
      if (completed.length === 0) return { outcome: { snapshotId }, writes }
      const source = { kind: 'snapshot' as const, snapshotId, sandboxId, parent }
      const made = decideImage(imageAggregate.initial, { type: 'RecordSnapshotImage', source, workerId })
      writes.push({ stream: imageId, expectedVersion: 0, events: record(made) })
      return { outcome: { snapshotId, imageId }, writes }
    },
  )
}

async function fail(
  snapshotter: Snapshotter,
  tenant: string,
  snapshotId: SnapshotId,
  { imageId, workerId }: Requested,
  reason: unknown,
): Promise<void> {
  const { code, message } = toErrorBody(reason)
  const id = derivedCommandId('snapshot-failed', snapshotId)
  await handleCommand(snapshotter, systemCommand(tenant, 'snapshot.fail', id, { snapshotId }), async () => {
    const { state, version } = await load(snapshotter.db, snapshotAggregate, snapshotId, { tenant })
    const events = decideSnapshot(state, { type: 'FailSnapshot', code, message })
    const writes = [{ stream: snapshotId, expectedVersion: version, events: record(events) }]
    if (events.length === 0) return { outcome: { snapshotId }, writes }
    return { outcome: { snapshotId }, writes, timers: { set: [removalTimer(imageId, [workerId])] } }
  })
}
