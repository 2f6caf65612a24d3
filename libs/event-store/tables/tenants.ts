/** Tenants: what each may have, what it has, how fast it may ask. */

import type { TenantLimits, TenantQuota, TenantRates, TenantUse } from '#libs/domain'
import type { Queryable } from '../database.js'

export interface Tenant {
  tenant: string
  createdAt: Date
  limits: TenantLimits
  used: TenantUse
}

const ENSURE = `
  insert into tenants (tenant)
  values ($1)
  on conflict (tenant) do nothing
`

/** Makes the tenant, without a quota, unless it is there. True when it was made now. */
export async function ensureTenant(db: Queryable, tenant: string): Promise<boolean> {
  const { rowCount } = await db.query(ENSURE, [tenant])
  return rowCount === 1
}

const SET_LIMITS = `
  -- Only what is given changes: a key with null takes a limit away, an absent one leaves it.
  update tenants
  set quota_sandboxes = case when $2 ? 'sandboxes' then ($2 ->> 'sandboxes')::integer else quota_sandboxes end,
      quota_execs = case when $2 ? 'execs' then ($2 ->> 'execs')::integer else quota_execs end,
      quota_cpu_millis = case when $2 ? 'cpuMillis' then ($2 ->> 'cpuMillis')::bigint else quota_cpu_millis end,
      quota_memory_bytes = case when $2 ? 'memoryBytes' then ($2 ->> 'memoryBytes')::bigint else quota_memory_bytes end,
      quota_disk_bytes = case when $2 ? 'diskBytes' then ($2 ->> 'diskBytes')::bigint else quota_disk_bytes end,
      commands_per_second = case when $2 ? 'commandsPerSecond'
                                 then ($2 ->> 'commandsPerSecond')::integer else commands_per_second end,
      requests_per_second = case when $2 ? 'requestsPerSecond'
                                 then ($2 ->> 'requestsPerSecond')::integer else requests_per_second end,
      commands_burst = coalesce(($2 ->> 'commandsBurst')::integer, commands_burst),
      requests_burst = coalesce(($2 ->> 'requestsBurst')::integer, requests_burst),
      nats_connections = coalesce(($2 ->> 'natsConnections')::integer, nats_connections),
      nats_subscriptions = coalesce(($2 ->> 'natsSubscriptions')::integer, nats_subscriptions),
      nats_payload_bytes = coalesce(($2 ->> 'natsPayloadBytes')::integer, nats_payload_bytes)
  where tenant = $1
`

/** A quota below what is used stops new things and ends none. False: there is no such tenant. */
export async function setTenantLimits(
  db: Queryable,
  tenant: string,
  limits: Partial<TenantLimits>,
): Promise<boolean> {
  const { rowCount } = await db.query(SET_LIMITS, [tenant, JSON.stringify(limits)])
  return rowCount === 1
}

/** Of the tenant `t`. */
export const USED_EXECS =
  '(select count(*)::integer from exec_slots s where s.tenant = t.tenant) as used_execs'

const LIST = `
  select t.*, ${USED_EXECS}
  from tenants t
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

const RATES = `
  select commands_per_second as "commandsPerSecond", commands_burst as "commandsBurst",
         requests_per_second as "requestsPerSecond", requests_burst as "requestsBurst"
  from tenants
  where tenant = $1
`

export async function findTenantRates(db: Queryable, tenant: string): Promise<TenantRates | null> {
  const { rows } = await db.query<TenantRates>({ name: 'tenant-rates', text: RATES, values: [tenant] })
  return rows[0] ?? null
}

/** bigint columns arrive as text. They are below 2^53. */
export interface QuotaColumns {
  quota_sandboxes: number | null
  quota_execs: number | null
  quota_cpu_millis: string | null
  quota_memory_bytes: string | null
  quota_disk_bytes: string | null
  used_sandboxes: number
  used_execs: number
  used_cpu_millis: string
  used_memory_bytes: string
  used_disk_bytes: string
}

export function quotaOf(row: QuotaColumns): { quota: TenantQuota; used: TenantUse } {
  return {
    quota: {
      sandboxes: row.quota_sandboxes,
      execs: row.quota_execs,
      cpuMillis: toNumber(row.quota_cpu_millis),
      memoryBytes: toNumber(row.quota_memory_bytes),
      diskBytes: toNumber(row.quota_disk_bytes),
    },
    used: {
      sandboxes: row.used_sandboxes,
      execs: row.used_execs,
      cpuMillis: Number(row.used_cpu_millis),
      memoryBytes: Number(row.used_memory_bytes),
      diskBytes: Number(row.used_disk_bytes),
    },
  }
}

interface TenantRow extends QuotaColumns {
  tenant: string
  created_at: Date
  commands_per_second: number | null
  commands_burst: number
  requests_per_second: number | null
  requests_burst: number
  nats_connections: number
  nats_subscriptions: number
  nats_payload_bytes: number
}

function toTenant(row: TenantRow): Tenant {
  const { quota, used } = quotaOf(row)
  return {
    tenant: row.tenant,
    createdAt: row.created_at,
    limits: {
      ...quota,
      commandsPerSecond: row.commands_per_second,
      commandsBurst: row.commands_burst,
      requestsPerSecond: row.requests_per_second,
      requestsBurst: row.requests_burst,
      natsConnections: row.nats_connections,
      natsSubscriptions: row.nats_subscriptions,
      natsPayloadBytes: row.nats_payload_bytes,
    },
    used,
  }
}

function toNumber(column: string | null): number | null {
  return column === null ? null : Number(column)
}
