/** What the snapshotter's timers do: deadlines, and the removal of subvolumes that nobody needs any more. */

import { IMAGE_IMPORT_DEADLINE_MS, type ImageId, SNAPSHOT_DEADLINE_MS, type SnapshotId } from '#libs/domain'
import type { TimerHandler } from '#libs/event-store'
import type { Snapshotter } from './context.js'
import { failSnapshot } from './create-snapshot.js'
import { recordImageStep } from './images.js'
import { cleanUpImage } from './remove-image.js'

/** Throwing re-arms the timer with a backoff; resolving means that it may go. */
export function timerHandlers(snapshotter: Snapshotter): Record<string, TimerHandler> {
  return {
    'image-import-deadline': ({ tenant, payload }) =>
      recordImageStep(snapshotter, tenant, payload.imageId as ImageId, {
        type: 'FailImport',
        ...overdue('the import', IMAGE_IMPORT_DEADLINE_MS),
      }),
    'snapshot-deadline': ({ tenant, payload }) =>
      failSnapshot(
        snapshotter,
        tenant,
        payload.snapshotId as SnapshotId,
        overdue('the snapshot', SNAPSHOT_DEADLINE_MS),
      ),
    'image-clean-up': (timer) => cleanUpImage(snapshotter, timer),
  }
}

function overdue(what: string, deadlineMs: number): { code: string; message: string } {
  return { code: 'DEADLINE_EXCEEDED', message: `${what} was not done within ${deadlineMs / 1000} s` }
}
