/**
 * `snapshot.create`: accepted for a running sandbox, then taken by its worker. The snapshot's completion and its image
 * are one append, so neither is ever seen without the other.
 */

import { type Command, handleCommand, newId, record } from '#libs/command-handling'
import type { Accepted, CommandBody } from '#libs/contract'
import {
  decideImage,
  decideSnapshot,
  imageAggregate,
  Rejected,
  type SandboxId,
  SNAPSHOT_DEADLINE_MS,
  type Snapshot,
  type SnapshotId,
  sandboxAggregate,
  snapshotAggregate,
  toErrorBody,
} from '#libs/domain'
import { load, type TimerToSet } from '#libs/event-store'
import { failpoint } from '#libs/failpoint'
import { askWorker } from '#libs/pool-tasks'
import { type Job, newCommandId, type Snapshotter, systemCommand } from './context.js'
import { cleanUpTimer } from './images.js'

/** A worker that is away for longer is looked for again by the next scan, until the deadline. */
const PATIENCE_MS = 5_000

export async function createSnapshot(
  snapshotter: Snapshotter,
  command: Command<CommandBody<'snapshot.create'>>,
): Promise<Accepted> {
  const { tenant } = command
  const sandboxId = command.body.sandboxId as SandboxId
  const [snapshotId, imageId] = [newId('sn'), newId('im')]
  const { accepted, isNew } = await handleCommand(snapshotter, command, async () => {
    const { state: sandbox } = await load(snapshotter.db, sandboxAggregate, sandboxId, { tenant })
    if (sandbox.status === 'absent')
      throw new Rejected('SANDBOX_NOT_FOUND', `no sandbox has the id ${sandboxId}`)
    if (sandbox.status !== 'running') {
      throw new Rejected('SANDBOX_NOT_RUNNING', `sandbox ${sandboxId} is ${sandbox.status}`)
    }
    const { workerId, epoch, spec } = sandbox
    const request = { sandboxId, workerId, epoch, imageId, parent: spec.image.imageId }
    const events = decideSnapshot({ status: 'absent' }, { type: 'RequestSnapshot', ...request })
    return {
      outcome: { snapshotId, imageId, sandboxId },
      writes: [{ stream: snapshotId, expectedVersion: 0, events: record(events) }],
      live: { action: 'require', sandboxId, workerId, epoch, open: true },
      timers: { set: [deadlineTimer(snapshotId, SNAPSHOT_DEADLINE_MS)] },
    }
  })
  if (isNew) snapshotter.jobs.begin({ kind: 'snapshot', key: snapshotId, tenant, snapshotId })
  return accepted
}

/** One try. Throws when the worker is away and has to be asked again. */
export async function takeSnapshot(
  snapshotter: Snapshotter,
  { tenant, snapshotId }: Extract<Job, { kind: 'snapshot' }>,
  signal: AbortSignal,
): Promise<void> {
  const { state } = await load(snapshotter.db, snapshotAggregate, snapshotId, { tenant })
  if (state.status !== 'requested') return
  const { sandboxId, workerId, epoch, imageId } = state
  const task = { kind: 'snapshot' as const, tenant, sandboxId, epoch, imageId }
  let tookMs: number
  try {
    const options = { signal, patienceMs: PATIENCE_MS }
    tookMs = (await askWorker<'snapshot'>(snapshotter.messaging, workerId, task, options)).tookMs
  } catch (error) {
    const { code, message, retryable } = toErrorBody(error)
    if (retryable || signal.aborted) throw error
    return failSnapshot(snapshotter, tenant, snapshotId, { code, message })
  }
  failpoint('snapshot-answered')
  await completeSnapshot(snapshotter, tenant, snapshotId, tookMs)
  failpoint('snapshot-completed')
}

async function completeSnapshot(
  snapshotter: Snapshotter,
  tenant: string,
  snapshotId: SnapshotId,
  tookMs: number,
) {
  await ownStep(snapshotter, tenant, snapshotId, 'complete', async (state, version) => {
    const { imageId, sandboxId, parent, workerId } = state
    const completed = decideSnapshot(state, { type: 'CompleteSnapshot', tookMs })
    const image = await load(snapshotter.db, imageAggregate, imageId, { tenant })
    const source = { kind: 'snapshot' as const, snapshotId, sandboxId, parent }
    const created =
      completed.length === 0
        ? []
        : decideImage(image.state, { type: 'RecordSnapshotImage', source, workerId })
    return {
      outcome: { snapshotId, imageId },
      writes: [
        { stream: snapshotId, expectedVersion: version, events: record(completed) },
        ...(created.length > 0
          ? [{ stream: imageId, expectedVersion: image.version, events: record(created) }]
          : []),
      ],
      timers: { cancel: [deadlineTimer(snapshotId).key] },
    }
  })
}

/** The half-made image is removed, also when the worker finishes it only now. */
export async function failSnapshot(
  snapshotter: Snapshotter,
  tenant: string,
  snapshotId: SnapshotId,
  failure: { code: string; message: string },
): Promise<void> {
  await ownStep(snapshotter, tenant, snapshotId, 'fail', async (state, version) => {
    const events = decideSnapshot(state, { type: 'FailSnapshot', ...failure })
    const set = events.length > 0 ? [cleanUpTimer(state.imageId, [state.workerId])] : []
    return {
      outcome: { snapshotId },
      writes: [{ stream: snapshotId, expectedVersion: version, events: record(events) }],
      timers: { set, cancel: [deadlineTimer(snapshotId).key] },
    }
  })
}

async function ownStep(
  snapshotter: Snapshotter,
  tenant: string,
  snapshotId: SnapshotId,
  step: string,
  decide: (
    state: Exclude<Snapshot, { status: 'absent' }>,
    version: number,
  ) => ReturnType<Parameters<typeof handleCommand>[2]>,
): Promise<void> {
  const command = systemCommand(tenant, `snapshot.${step}`, newCommandId(), { snapshotId })
  await handleCommand(snapshotter, command, async () => {
    const { state, version } = await load(snapshotter.db, snapshotAggregate, snapshotId, { tenant })
    if (state.status === 'absent')
      throw new Rejected('SNAPSHOT_NOT_FOUND', `no snapshot has the id ${snapshotId}`)
    return decide(state, version)
  })
}

function deadlineTimer(snapshotId: SnapshotId, afterMs = 0): TimerToSet {
  return { key: `${snapshotId}:deadline`, afterMs, kind: 'snapshot-deadline', payload: { snapshotId } }
}
