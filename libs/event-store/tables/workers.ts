/** Workers as the scheduler knows them: what they have, what is taken, when they were last heard. */

import { PLATFORM_TENANT } from '#libs/domain'
import type { Queryable } from '../database.js'
import type { Claim, JsonObject, Resources } from '../types.js'

/** `active` takes sandboxes, `cordoned` keeps those it has, `lost` has not been heard for the whole grace. */
export type WorkerState = 'active' | 'cordoned' | 'lost'

/** Held by a worker that is to get no new sandbox: taken and released with the event that says so. */
export function cordonClaim(workerId: string): Claim {
  return { kind: CORDON, key: workerId, holder: workerId }
}

const CORDON = 'worker-cordon'

export interface WorkerReport {
  workerId: string
  /** Changes with each start of the worker process. */
  incarnation: string
  capacity: Resources
  /** How often its CPU may be promised. */
  cpuFactor?: number
  poolFreeBytes: number
  /** Data plane URL, certificate, seal key, runtimes and whatever else it tells. */
  info: JsonObject
}

export interface Worker {
  workerId: string
  state: WorkerState
  /** Also of one that is lost: a cordon stays until it is taken away. */
  cordoned: boolean
  incarnation: string | null
  capacity: Resources
  cpuFactor: number
  reserved: Resources
  poolFreeBytes: number
  info: JsonObject
  heartbeatAt: Date
  /** By the database's clock. */
  heartbeatAgeMs: number
}

const UPSERT = `
  -- A lost worker that comes back is active again; its cordon is a claim, which this does not touch.
  insert into workers as w (worker_id, state, incarnation, capacity_cpu_millis, capacity_memory_bytes,
                            capacity_disk_bytes, cpu_factor, pool_free_bytes, info)
  values ($1, 'active', $2, $3, $4, $5, $6, $7, $8)
  on conflict (worker_id) do update
  set state = 'active',
      incarnation = excluded.incarnation,
      capacity_cpu_millis = excluded.capacity_cpu_millis,
      capacity_memory_bytes = excluded.capacity_memory_bytes,
      capacity_disk_bytes = excluded.capacity_disk_bytes,
      cpu_factor = excluded.cpu_factor,
      pool_free_bytes = excluded.pool_free_bytes,
      info = excluded.info,
      heartbeat_at = clock_timestamp()
  returning *, 0::double precision as heartbeat_age_ms,
            exists (select from claims where tenant = $9 and kind = $10 and key = w.worker_id) as cordoned
`

/** Registers the worker, or renews all that is known of it, heartbeat included. */
export async function upsertWorker(db: Queryable, report: WorkerReport): Promise<Worker> {
  const { workerId, incarnation, capacity, cpuFactor = 16, poolFreeBytes, info } = report
  const { cpuMillis, memoryBytes, diskBytes } = capacity
  const values = [
    workerId,
    incarnation,
    cpuMillis,
    memoryBytes,
    diskBytes,
    cpuFactor,
    poolFreeBytes,
    JSON.stringify(info),
    PLATFORM_TENANT,
    CORDON,
  ]
  const { rows } = await db.query<WorkerRow>(UPSERT, values)
  return toWorker(rows[0] as WorkerRow)
}

const LIST = `
  select w.*, extract(epoch from clock_timestamp() - heartbeat_at)::double precision * 1000 as heartbeat_age_ms,
         exists (select from claims c where c.tenant = $2 and c.kind = $3 and c.key = w.worker_id) as cordoned
  from workers w
  where $1::text is null or worker_id = $1
  order by worker_id
`

export async function listWorkers(db: Queryable): Promise<Worker[]> {
  const { rows } = await db.query<WorkerRow>(LIST, [null, PLATFORM_TENANT, CORDON])
  return rows.map(toWorker)
}

export async function findWorker(db: Queryable, workerId: string): Promise<Worker | null> {
  const { rows } = await db.query<WorkerRow>(LIST, [workerId, PLATFORM_TENANT, CORDON])
  return rows[0] ? toWorker(rows[0]) : null
}

/** What the row itself has. */
type StoredState = Exclude<WorkerState, 'cordoned'>

const LOSE = `
  -- Heard again since the list was read, it is not lost. A Date has lost the microseconds of its column.
  update workers
  set state = 'lost'
  where worker_id = $1 and state <> 'lost' and heartbeat_at < $2::timestamptz + interval '1 millisecond'
`

/** False when it was heard after `heartbeatAt`, is lost already, or there is no such worker: then nothing changed. */
export async function loseWorker(db: Queryable, workerId: string, heartbeatAt: Date): Promise<boolean> {
  const { rowCount } = await db.query(LOSE, [workerId, heartbeatAt.toISOString()])
  return rowCount === 1
}

/** bigint columns arrive as text. They are below 2^53: bytes and millicores of one host. */
interface WorkerRow {
  worker_id: string
  state: StoredState
  cordoned: boolean
  incarnation: string | null
  capacity_cpu_millis: string
  capacity_memory_bytes: string
  capacity_disk_bytes: string
  cpu_factor: number
  reserved_cpu_millis: string
  reserved_memory_bytes: string
  reserved_disk_bytes: string
  pool_free_bytes: string
  info: JsonObject
  heartbeat_at: Date
  heartbeat_age_ms: number
}

function toWorker(row: WorkerRow): Worker {
  return {
    workerId: row.worker_id,
    state: row.state === 'active' && row.cordoned ? 'cordoned' : row.state,
    cordoned: row.cordoned,
    incarnation: row.incarnation,
    capacity: {
      cpuMillis: Number(row.capacity_cpu_millis),
      memoryBytes: Number(row.capacity_memory_bytes),
      diskBytes: Number(row.capacity_disk_bytes),
    },
    cpuFactor: row.cpu_factor,
    reserved: {
      cpuMillis: Number(row.reserved_cpu_millis),
      memoryBytes: Number(row.reserved_memory_bytes),
      diskBytes: Number(row.reserved_disk_bytes),
    },
    poolFreeBytes: Number(row.pool_free_bytes),
    info: row.info,
    heartbeatAt: row.heartbeat_at,
    heartbeatAgeMs: row.heartbeat_age_ms,
  }
}
