/** Volumes: what is known of one with all its versions, and commits that are waited for. */

import type { Accepted } from '#libs/contract'
import {
  fromErrorBody,
  isId,
  Rejected,
  SandtrailError,
  VOLUME_COMMIT_DEADLINE_MS,
  type VolumeEvent,
  type VolumeVersion,
  volumeAggregate,
} from '#libs/domain'
import { findClaim, type Queryable, type RecordedEvent, readStream, upcast } from '#libs/event-store'
import { type Origin, sendCommand } from './commands.js'
import type { Gateway } from './gateway.js'

export interface VolumeView {
  volumeId: string
  name: string
  state: 'ready' | 'removed'
  /** The worker in whose pool it lies. */
  workerId: string
  /** The newest; 0 is empty. */
  version: number
  createdAt: string
  versions: (VolumeVersion & { trigger: 'commit' | 'sandbox-end'; at: string })[]
}

/** @param reference a volume's name or id. @throws Rejected VOLUME_NOT_FOUND */
export async function readVolume(db: Queryable, tenant: string, reference: string): Promise<VolumeView> {
  const volumeId = isId('vo', reference) ? reference : await findClaim(db, tenant, 'volume-name', reference)
  const events = volumeId === null ? [] : await readStream(db, volumeId)
  const view = events[0]?.tenant === tenant ? volumeView(events) : null
  if (view !== null) return view
  throw new Rejected('VOLUME_NOT_FOUND', `no volume is called ${JSON.stringify(reference.slice(0, 80))}`, {
    hint: 'see `sandtrail volume ls`, make one with `sandtrail volume create`',
  })
}

/**
 * Commits what a sandbox wrote to its volume, and resolves with the version that came of it.
 *
 * @throws the code with which the commit failed
 * @throws SandtrailError DEADLINE_EXCEEDED when its end was not seen in time; it may still come
 */
export async function commitVolume(
  { db, messaging, waiter }: Gateway,
  origin: Origin,
  body: { sandboxId: string; volume: string },
  signal: AbortSignal,
): Promise<Accepted & VolumeVersion> {
  const { accepted } = await sendCommand(messaging, origin, 'volume.commit', body)
  const deadline = performance.now() + VOLUME_COMMIT_DEADLINE_MS
  const { stream, commitId } = accepted
  let seen = 0
  while (!signal.aborted && performance.now() < deadline) {
    for (const event of await readStream(db, stream, { fromVersion: seen + 1 })) {
      seen = event.version
      const { type, data } = event as unknown as VolumeEvent
      if (type === 'VolumeCommitted' && data.commitId === commitId) return { ...accepted, ...data }
      if (type === 'VolumeCommitFailed' && data.commitId === commitId) {
        throw fromErrorBody({ code: data.code as never, message: data.message, hint: null, retryable: false })
      }
    }
    const timeoutMs = deadline - performance.now()
    await waiter.until(stream, ['VolumeCommitted', 'VolumeCommitFailed'], {
      timeoutMs,
      signal,
      afterVersion: seen,
    })
  }
  throw new SandtrailError('DEADLINE_EXCEEDED', `the commit ${commitId} is not complete yet`, {
    hint: 'see `sandtrail volume versions`',
  })
}

function volumeView(events: RecordedEvent[]): VolumeView | null {
  const volume = events.map((event) => upcast(event)).reduce(volumeAggregate.evolve, volumeAggregate.initial)
  const [first] = events
  if (first === undefined || volume.status === 'absent') return null
  const versions = events.flatMap((recorded) => {
    const event = recorded as unknown as VolumeEvent
    return event.type === 'VolumeCommitted' ? [{ ...event.data, at: recorded.at.toISOString() }] : []
  })
  const { name, status: state, workerId, version } = volume
  return {
    volumeId: first.stream,
    name,
    state,
    workerId,
    version,
    createdAt: first.at.toISOString(),
    versions,
  }
}
