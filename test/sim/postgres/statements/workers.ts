import type { Postgres } from '../server.js'
import type { Row } from '../tables.js'
import { newTenant, usedExecs } from './reservations.js'
import { result, type Statements } from './statement.js'

function asSelected(server: Postgres, row: Row): object {
  const at = Number(row.heartbeat_at)
  // Nobody cordons in a simulation.
  return { ...row, heartbeat_at: new Date(at), heartbeat_age_ms: server.env.wallMs() - at, cordoned: false }
}

const inOrder = (rows: Row[], by: string) => rows.sort((a, b) => (String(a[by]) < String(b[by]) ? -1 : 1))

const QUOTAS = {
  sandboxes: 'quota_sandboxes',
  execs: 'quota_execs',
  cpuMillis: 'quota_cpu_millis',
  memoryBytes: 'quota_memory_bytes',
  diskBytes: 'quota_disk_bytes',
}

export const workers: Statements = [
  [
    /insert into workers as w/,
    ({ server, tx, values }) => {
      const [worker_id, incarnation, cpu, memory, disk, cpu_factor, pool_free_bytes, info] = values
      const { workers } = server.tables
      tx.lock(workers, String(worker_id))
      const known = tx.get(workers, String(worker_id)) ?? {
        state: 'active',
        reserved_cpu_millis: 0,
        reserved_memory_bytes: 0,
        reserved_disk_bytes: 0,
      }
      const row = {
        ...known,
        worker_id,
        state: 'active',
        incarnation,
        capacity_cpu_millis: cpu,
        capacity_memory_bytes: memory,
        capacity_disk_bytes: disk,
        cpu_factor,
        pool_free_bytes,
        info: JSON.parse(String(info)),
        heartbeat_at: server.env.wallMs(),
      }
      tx.put(workers, String(worker_id), row)
      return result([asSelected(server, row)])
    },
  ],
  [
    /from workers w\s+where \$1::text is null/,
    ({ server, tx, values: [id] }) => {
      const rows = tx.scan(server.tables.workers).filter((row) => id === null || row.worker_id === id)
      return result(inOrder(rows, 'worker_id').map((row) => asSelected(server, row)))
    },
  ],
  [
    /update workers\s+set state = 'lost'/,
    ({ server, tx, values: [id, heartbeatAt] }) => {
      const { workers } = server.tables
      if (!tx.get(workers, String(id))) return result([], 0)
      tx.lock(workers, String(id))
      const row = tx.get(workers, String(id))!
      const isOld = Number(row.heartbeat_at) < Date.parse(String(heartbeatAt)) + 1
      if (row.state === 'lost' || !isOld) return result([], 0)
      tx.put(workers, String(id), { ...row, state: 'lost' })
      return result([], 1)
    },
  ],
  [
    /insert into tenants \(tenant\)\s+values/,
    ({ server, tx, values: [tenant] }) => {
      const { tenants } = server.tables
      tx.lock(tenants, String(tenant))
      if (tx.get(tenants, String(tenant))) return result([], 0)
      tx.put(tenants, String(tenant), newTenant(tenant))
      return result([], 1)
    },
  ],
  // Nobody has rates of its own here, and nobody reads the audit of refusals.
  [/select commands_per_second as "commandsPerSecond"/, () => result([])],
  [/insert into refusals/, () => result([])],
  [
    /update tenants\s+set quota_sandboxes = case/,
    ({ server, tx, values: [tenant, json] }) => {
      const { tenants } = server.tables
      if (!tx.get(tenants, String(tenant))) return result([], 0)
      tx.lock(tenants, String(tenant))
      const given = JSON.parse(String(json)) as Record<string, number | null>
      const columns = Object.entries(QUOTAS)
        .filter(([name]) => Object.hasOwn(given, name))
        .map(([name, column]) => [column, given[name]] as const)
      tx.put(tenants, String(tenant), { ...tx.get(tenants, String(tenant)), ...Object.fromEntries(columns) })
      return result([], 1)
    },
  ],
  [
    /from tenants t?\s*where \$1::text is null/,
    ({ server, tx, values: [tenant] }) => {
      const rows = tx.scan(server.tables.tenants).filter((row) => tenant === null || row.tenant === tenant)
      return result(
        inOrder(rows, 'tenant').map((row) => ({ ...row, used_execs: usedExecs(server, tx, row.tenant) })),
      )
    },
  ],
]
