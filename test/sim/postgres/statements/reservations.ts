import type { Postgres } from '../server.js'
import type { Row, Transaction } from '../tables.js'
import { result, type Statements } from './statement.js'

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

export const reservations: Statements = [
  [
    /with worker as \(\s+update workers/,
    ({ server, tx, values }) => {
      const [sandbox_id, tenant, worker_id, cpu_millis, memory_bytes, disk_bytes] = values
      const { workers, tenants, reservations } = server.tables
      const amounts = { cpu_millis, memory_bytes, disk_bytes }
      if (!tx.get(workers, String(worker_id))) return result([{ worker: 0, tenant: 0 }])
      tx.lock(workers, String(worker_id))
      const worker = add(tx.get(workers, String(worker_id))!, 'reserved', amounts, 1)
      const fits =
        worker.state === 'active' &&
        Number(worker.reserved_cpu_millis) <=
          Number(worker.capacity_cpu_millis) * Number(worker.cpu_factor) &&
        Number(worker.reserved_memory_bytes) <= Number(worker.capacity_memory_bytes) &&
        Number(worker.reserved_disk_bytes) <= Number(worker.capacity_disk_bytes)
      if (!fits) return result([{ worker: 0, tenant: 0 }])
      tx.lock(tenants, String(tenant))
      const known = tx.get(tenants, String(tenant)) ?? newTenant(tenant)
      const more = {
        ...add(known, 'used', amounts, 1),
        used_sandboxes: Number(known.used_sandboxes) + 1,
      } as Row
      const isAbove = (what: string) => {
        const quota = more[`quota_${what}`]
        return quota !== null && Number(more[`used_${what}`]) > Number(quota)
      }
      if (['sandboxes', ...AMOUNTS].some(isAbove)) return result([{ worker: 1, tenant: 0 }])
      tx.put(workers, String(worker_id), worker)
      tx.put(tenants, String(tenant), more)
      tx.put(reservations, String(sandbox_id), { sandbox_id, tenant, worker_id, ...amounts })
      return result([{ worker: 1, tenant: 1 }])
    },
  ],
  [
    /with gone as \(\s+delete from reservations/,
    ({ server, tx, values: [id] }) => {
      const { workers, tenants, reservations } = server.tables
      if (!tx.get(reservations, String(id))) return result([], 0)
      tx.lock(reservations, String(id))
      const gone = tx.get(reservations, String(id))
      if (!gone) return result([], 0)
      const [worker, tenant] = [String(gone.worker_id), String(gone.tenant)]
      tx.lock(workers, worker)
      tx.lock(tenants, tenant)
      tx.put(reservations, String(id), null)
      tx.put(workers, worker, add(tx.get(workers, worker)!, 'reserved', gone, -1))
      const known = tx.get(tenants, tenant)!
      const less = { ...add(known, 'used', gone, -1), used_sandboxes: Number(known.used_sandboxes) - 1 }
      tx.put(tenants, tenant, less)
      return result([], 1)
    },
  ],
  [
    /select from tenants\s+where tenant = \$1 and quota_execs is not null/,
    ({ server, tx, values: [tenant] }) => {
      const { tenants } = server.tables
      const isBound = () => tx.get(tenants, String(tenant))?.quota_execs != null
      if (isBound()) tx.lock(tenants, String(tenant))
      return result([])
    },
  ],
  [
    /insert into exec_slots/,
    ({ server, tx, values: [ids, tenant] }) => {
      const { execSlots, tenants } = server.tables
      const given = ids as string[]
      const quota = tx.get(tenants, String(tenant))?.quota_execs
      if (quota != null && Number(quota) < given.length + usedExecs(server, tx, tenant)) return result([], 0)
      for (const id of given) tx.lock(execSlots, id)
      const fresh = given.filter((id) => !tx.get(execSlots, id))
      for (const id of fresh) tx.put(execSlots, id, { exec_id: id, tenant })
      return result([], fresh.length)
    },
  ],
  [
    /delete from exec_slots/,
    ({ server, tx, values: [ids] }) => {
      const { execSlots } = server.tables
      const there = (ids as string[]).filter((id) => tx.get(execSlots, id))
      for (const id of there) tx.lock(execSlots, id)
      for (const id of there) tx.put(execSlots, id, null)
      return result([], there.length)
    },
  ],
  [
    /select quota_sandboxes, quota_execs/,
    ({ server, tx, values: [tenant] }) => {
      const row = tx.get(server.tables.tenants, String(tenant))
      return result([{ ...row, used_execs: usedExecs(server, tx, tenant) }])
    },
  ],
]
