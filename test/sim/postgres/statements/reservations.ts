import type { Postgres } from '../server.js'
import type { Row, Transaction } from '../tables.js'
import type { Call, Step } from './statement.js'

const AMOUNTS = ['cpu_millis', 'memory_bytes', 'disk_bytes'] as const

/** The row with the amounts added to its columns of this prefix. */
function add(row: Row, prefix: 'reserved' | 'used', amounts: Row, sign: 1 | -1): Row {
  const columns = AMOUNTS.map((name) => {
    return [`${prefix}_${name}`, Number(row[`${prefix}_${name}`]) + sign * Number(amounts[name])] as const
  })
  return { ...row, ...Object.fromEntries(columns) }
}

export const newTenant = (tenant: unknown): Row => ({
  tenant,
  quota_sandboxes: null,
  quota_execs: null,
  quota_cpu_millis: null,
  quota_memory_bytes: null,
  quota_disk_bytes: null,
  used_sandboxes: 0,
  used_cpu_millis: 0,
  used_memory_bytes: 0,
  used_disk_bytes: 0,
})

export function usedExecs(server: Postgres, tx: Transaction, tenant: unknown): number {
  return tx.scan(server.tables.execSlots).filter((slot) => slot.tenant === tenant).length
}

const fullTenant = ({ server, tx }: Call, tenant: string) => {
  const row = tx.get(server.tables.tenants, tenant)
  const used_execs = usedExecs(server, tx, tenant)
  return { outcome: 'no-capacity', of: 'tenant', tenant: { ...row, used_execs } }
}

export const reserve: Step = (call, { tenant, giveBack = [], reserve: wanted = [] }) => {
  for (const id of giveBack) release(call, id)
  return wanted.length === 0 ? null : take(call, tenant, wanted)
}

function release({ server, tx }: Call, id: string): void {
  const { workers, tenants, reservations } = server.tables
  if (!tx.get(reservations, id)) return
  tx.lock(reservations, id)
  const gone = tx.get(reservations, id)
  if (!gone) return
  const [worker, tenant] = [String(gone.worker_id), String(gone.tenant)]
  tx.lock(workers, worker)
  tx.lock(tenants, tenant)
  tx.put(reservations, id, null)
  tx.put(workers, worker, add(tx.get(workers, worker)!, 'reserved', gone, -1))
  const known = tx.get(tenants, tenant)!
  tx.put(tenants, tenant, {
    ...add(known, 'used', gone, -1),
    used_sandboxes: Number(known.used_sandboxes) - 1,
  })
}

interface Wanted {
  sandboxId: string
  workerId: string
  cpuMillis: number
  memoryBytes: number
  diskBytes: number
}

/** All on one worker. */
function take(call: Call, tenant: string, wanted: Wanted[]): object | null {
  const { server, tx } = call
  const { workers, tenants, reservations } = server.tables
  const { workerId } = wanted[0]!
  const amountsOf = ({ cpuMillis, memoryBytes, diskBytes }: Wanted) => ({
    cpu_millis: cpuMillis,
    memory_bytes: memoryBytes,
    disk_bytes: diskBytes,
  })
  const lacking = { outcome: 'no-capacity', of: 'worker' }
  if (!tx.get(workers, workerId)) return lacking
  tx.lock(workers, workerId)
  const worker = wanted.reduce(
    (row, each) => add(row, 'reserved', amountsOf(each), 1),
    tx.get(workers, workerId)!,
  )
  const fits =
    worker.state === 'active' &&
    Number(worker.reserved_cpu_millis) <= Number(worker.capacity_cpu_millis) * Number(worker.cpu_factor) &&
    Number(worker.reserved_memory_bytes) <= Number(worker.capacity_memory_bytes) &&
    Number(worker.reserved_disk_bytes) <= Number(worker.capacity_disk_bytes)
  if (!fits) return lacking
  tx.lock(tenants, tenant)
  const known = tx.get(tenants, tenant) ?? newTenant(tenant)
  const more = wanted.reduce((row, each) => add(row, 'used', amountsOf(each), 1), {
    ...known,
    used_sandboxes: Number(known.used_sandboxes) + wanted.length,
  } as Row)
  const isAbove = (what: string) => {
    const quota = more[`quota_${what}`]
    return quota !== null && Number(more[`used_${what}`]) > Number(quota)
  }
  if (['sandboxes', ...AMOUNTS].some(isAbove)) return fullTenant(call, tenant)
  tx.put(workers, workerId, worker)
  tx.put(tenants, tenant, more)
  for (const each of wanted) {
    const row = { sandbox_id: each.sandboxId, tenant, worker_id: workerId, ...amountsOf(each) }
    tx.put(reservations, each.sandboxId, row)
  }
  return null
}

export const takeSlots: Step = (call, { tenant, ended = [], started = [] }) => {
  const { server, tx } = call
  const { execSlots, tenants } = server.tables
  const there = ended.filter((id: string) => tx.get(execSlots, id))
  for (const id of there) tx.lock(execSlots, id)
  for (const id of there) tx.put(execSlots, id, null)
  if (started.length === 0) return null
  const quotaOf = () => tx.get(tenants, tenant)?.quota_execs ?? null
  if (quotaOf() !== null) tx.lock(tenants, tenant)
  const quota = quotaOf()
  if (quota !== null && Number(quota) < started.length + usedExecs(server, tx, tenant))
    return fullTenant(call, tenant)
  for (const id of started) {
    tx.lock(execSlots, id)
    if (tx.get(execSlots, id)) return fullTenant(call, tenant)
    tx.put(execSlots, id, { exec_id: id, tenant })
  }
  return null
}
