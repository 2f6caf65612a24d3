/** What a sandbox takes from its worker's capacity and its tenant's quota. Always in this order: worker, tenant. */

import type { Excess } from '#libs/domain'
import type { Queryable } from '../database.js'
import type { ReservationChange } from '../types.js'
import { excessOf } from './excess.js'

type Take = Extract<ReservationChange, { action: 'take' }>

/** What does not suffice. */
export type Lack = { of: 'worker' } | { of: 'tenant'; excess: Excess }

/** Null, or what does not suffice. */
export async function changeReservation(
  tx: Queryable,
  tenant: string,
  change: ReservationChange,
): Promise<Lack | null> {
  if (change.action === 'take') return take(tx, tenant, change)
  await release(tx, change.sandboxId)
  return null
}

const TAKE = `
  -- Conditional updates, each on the row that the one before has locked: no two appends take the same bytes.
  with worker as (
    update workers
    set reserved_cpu_millis = reserved_cpu_millis + $4,
        reserved_memory_bytes = reserved_memory_bytes + $5,
        reserved_disk_bytes = reserved_disk_bytes + $6
    where worker_id = $3 and state = 'active'
      and reserved_cpu_millis + $4 <= capacity_cpu_millis * cpu_factor
      and reserved_memory_bytes + $5 <= capacity_memory_bytes
      and reserved_disk_bytes + $6 <= capacity_disk_bytes
    returning worker_id
  ), tenant as (
    -- A tenant that nobody has given a quota has none.
    insert into tenants as t (tenant, used_sandboxes, used_cpu_millis, used_memory_bytes, used_disk_bytes)
    select $2, 1, $4, $5, $6 from worker
    on conflict (tenant) do update
    set used_sandboxes = t.used_sandboxes + 1,
        used_cpu_millis = t.used_cpu_millis + $4,
        used_memory_bytes = t.used_memory_bytes + $5,
        used_disk_bytes = t.used_disk_bytes + $6
    where (t.quota_sandboxes is null or t.used_sandboxes + 1 <= t.quota_sandboxes)
      and (t.quota_cpu_millis is null or t.used_cpu_millis + $4 <= t.quota_cpu_millis)
      and (t.quota_memory_bytes is null or t.used_memory_bytes + $5 <= t.quota_memory_bytes)
      and (t.quota_disk_bytes is null or t.used_disk_bytes + $6 <= t.quota_disk_bytes)
    returning tenant
  ), reservation as (
    insert into reservations (sandbox_id, tenant, worker_id, cpu_millis, memory_bytes, disk_bytes)
    select $1, tenant, $3, $4, $5, $6 from tenant
  )
  select (select count(*)::integer from worker) as worker, (select count(*)::integer from tenant) as tenant
`

async function take(tx: Queryable, tenant: string, change: Take): Promise<Lack | null> {
  const { cpuMillis, memoryBytes, diskBytes } = change.resources
  const values = [change.sandboxId, tenant, change.workerId, cpuMillis, memoryBytes, diskBytes]
  const { rows } = await tx.query<{ worker: number; tenant: number }>({ name: 'take', text: TAKE, values })
  if (rows[0]?.worker !== 1) return { of: 'worker' }
  if (rows[0].tenant === 1) return null
  return { of: 'tenant', excess: await excessOf(tx, tenant, { sandboxes: 1, ...change.resources }) }
}

const RELEASE = `
  with gone as (
    delete from reservations
    where sandbox_id = $1
    returning tenant, worker_id, cpu_millis, memory_bytes, disk_bytes
  ), worker as (
    update workers w
    set reserved_cpu_millis = reserved_cpu_millis - gone.cpu_millis,
        reserved_memory_bytes = reserved_memory_bytes - gone.memory_bytes,
        reserved_disk_bytes = reserved_disk_bytes - gone.disk_bytes
    from gone
    where w.worker_id = gone.worker_id
    returning w.worker_id
  )
  update tenants t
  set used_sandboxes = used_sandboxes - 1,
      used_cpu_millis = used_cpu_millis - gone.cpu_millis,
      used_memory_bytes = used_memory_bytes - gone.memory_bytes,
      used_disk_bytes = used_disk_bytes - gone.disk_bytes
  -- The join pulls worker before the tenant's row is locked.
  from gone left join worker on worker.worker_id = gone.worker_id
  where t.tenant = gone.tenant
`

/** Gives back what the sandbox had. Nothing reserved is not an error: a release may come twice. */
async function release(tx: Queryable, sandboxId: string): Promise<void> {
  await tx.query({ name: 'release', text: RELEASE, values: [sandboxId] })
}
