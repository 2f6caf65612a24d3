/** Workers as operators see them: what the control plane knows of each, and what is wanted of it. */

import { isId, PLATFORM_TENANT, Rejected, type WorkerId, workerAggregate } from '#libs/domain'
import {
  findWorker,
  listLive,
  listWorkers,
  load,
  type Queryable,
  type RecordedEvent,
  readStream,
  type Worker,
} from '#libs/event-store'

export interface WorkerView {
  workerId: string
  /** `lost` whatever is wanted of it. */
  state: 'active' | 'cordoned' | 'draining' | 'drained' | 'lost'
  cordoned: boolean
  hostname: string | null
  version: string | null
  /** That live there. */
  sandboxes: number
  /** Those of them that are ending already. */
  stopping: number
  capacity: { cpuMillis: number; memoryBytes: number; diskBytes: number }
  reserved: { cpuMillis: number; memoryBytes: number; diskBytes: number }
  poolFreeBytes: number
  heartbeatAgeMs: number
  /** RFC 3339: what still runs then is ended; null: no drain, or one without a limit. */
  drainDeadline: string | null
}

export async function readWorkers(db: Queryable): Promise<WorkerView[]> {
  return Promise.all((await listWorkers(db)).map((worker) => viewOf(db, worker)))
}

/** @throws Rejected NOT_FOUND */
export async function readWorker(db: Queryable, workerId: string): Promise<WorkerView> {
  const worker = isId('wk', workerId) ? await findWorker(db, workerId) : null
  if (worker === null) throw noWorker(workerId)
  return viewOf(db, worker)
}

/** Who cordoned, drained and uncordoned it. @throws Rejected NOT_FOUND */
export async function workerEvents(db: Queryable, workerId: string): Promise<RecordedEvent[]> {
  if (!isId('wk', workerId) || (await findWorker(db, workerId)) === null) throw noWorker(workerId)
  const events = await readStream(db, workerId)
  return events.filter(({ tenant }) => tenant === PLATFORM_TENANT)
}

async function viewOf(db: Queryable, worker: Worker): Promise<WorkerView> {
  const { workerId, capacity, reserved, poolFreeBytes, heartbeatAgeMs, cordoned, info } = worker
  const [{ state: intent }, live] = await Promise.all([
    load(db, workerAggregate, workerId as WorkerId, { tenant: PLATFORM_TENANT }),
    listLive(db, workerId),
  ])
  const deadlineMs = intent.status === 'draining' ? intent.deadlineMs : null
  return {
    workerId,
    state: worker.state === 'lost' ? 'lost' : intent.status,
    cordoned,
    hostname: typeof info.hostname === 'string' ? info.hostname : null,
    version: typeof info.version === 'string' ? info.version : null,
    sandboxes: live.length,
    stopping: live.filter(({ state }) => state === 'closing').length,
    capacity,
    reserved,
    poolFreeBytes,
    heartbeatAgeMs: Math.round(heartbeatAgeMs),
    drainDeadline: deadlineMs === null ? null : new Date(deadlineMs).toISOString(),
  }
}

function noWorker(workerId: string): Rejected {
  return new Rejected('NOT_FOUND', `no worker ${workerId.slice(0, 64)} has ever registered`, {
    hint: 'see `sandtrail worker ls`',
  })
}
