/** Tenants and their quotas. */

import type { Queryable } from '../database.js'

/** null: unlimited. */
export interface Quota {
  sandboxes: number | null
  cpuMillis: number | null
  memoryBytes: number | null
  diskBytes: number | null
}

export interface Tenant {
  tenant: string
  quota: Quota
  used: { [K in keyof Quota]: number }
  createdAt: Date
}

const ENSURE = `
  insert into tenants (tenant)
  values ($1)
  on conflict (tenant) do nothing
`

/** Makes the tenant, without a quota, unless it is there. */
export async function ensureTenant(db: Queryable, tenant: string): Promise<void> {
  await db.query(ENSURE, [tenant])
}

const SET_QUOTA = `
  insert into tenants (tenant, quota_sandboxes, quota_cpu_millis, quota_memory_bytes, quota_disk_bytes)
  values ($1, $2, $3, $4, $5)
  on conflict (tenant) do update
  set quota_sandboxes = $2, quota_cpu_millis = $3, quota_memory_bytes = $4, quota_disk_bytes = $5
`

/** A quota below what is used now stops new sandboxes and ends none. */
export async function setQuota(db: Queryable, tenant: string, quota: Quota): Promise<void> {
  const { sandboxes, cpuMillis, memoryBytes, diskBytes } = quota
  await db.query(SET_QUOTA, [tenant, sandboxes, cpuMillis, memoryBytes, diskBytes])
}

const LIST = `
  select tenant, created_at,
         quota_sandboxes, quota_cpu_millis, quota_memory_bytes, quota_disk_bytes,
         used_sandboxes, used_cpu_millis, used_memory_bytes, used_disk_bytes
  from tenants
  where $1::text is null or tenant = $1
  order by tenant
`

export async function listTenants(db: Queryable): Promise<Tenant[]> {
  const { rows } = await db.query<TenantRow>(LIST, [null])
  return rows.map(toTenant)
}

export async function findTenant(db: Queryable, tenant: string): Promise<Tenant | null> {
  const { rows } = await db.query<TenantRow>(LIST, [tenant])
  return rows[0] ? toTenant(rows[0]) : null
}

interface TenantRow {
  tenant: string
  created_at: Date
  quota_sandboxes: number | null
  quota_cpu_millis: string | null
  quota_memory_bytes: string | null
  quota_disk_bytes: string | null
  used_sandboxes: number
  used_cpu_millis: string
  used_memory_bytes: string
  used_disk_bytes: string
}

function toTenant(row: TenantRow): Tenant {
  return {
    tenant: row.tenant,
    createdAt: row.created_at,
    quota: {
      sandboxes: row.quota_sandboxes,
      cpuMillis: toNumber(row.quota_cpu_millis),
      memoryBytes: toNumber(row.quota_memory_bytes),
      diskBytes: toNumber(row.quota_disk_bytes),
    },
    used: {
      sandboxes: row.used_sandboxes,
      cpuMillis: Number(row.used_cpu_millis),
      memoryBytes: Number(row.used_memory_bytes),
      diskBytes: Number(row.used_disk_bytes),
    },
  }
}

function toNumber(column: string | null): number | null {
  return column === null ? null : Number(column)
}
