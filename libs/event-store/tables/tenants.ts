/** Tenants: what each may have, what it has, how fast it may ask. */

import {
  PLATFORM_TENANT,
  type TenantLimits,
  type TenantQuota,
  type TenantRates,
  type TenantThings,
  type TenantUse,
} from '#libs/domain'
import type { Queryable } from '../database.js'
import type { Claim } from '../types.js'

/** `suspended` from the request of a removal on: no call of such a tenant is served. */
export type TenantStanding = 'active' | 'suspended' | 'removing' | 'removed'

/** Where a tenant stands is claims, taken and released with the events that say so (docs/adr/0072). */
export function standingClaim(standing: Exclude<TenantStanding, 'active'>, tenant: string): Claim {
  return { kind: `tenant-${standing}`, key: tenant, holder: `tenant:${tenant}` }
}

export interface Tenant {
  tenant: string
  standing: TenantStanding
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
  select t.*, ${USED_EXECS},
         (select array_agg(kind) from claims c where c.tenant = $2 and c.kind like 'tenant-%' and c.key = t.tenant) as standings
  from tenants t
  where $1::text is null or tenant = $1
  order by tenant
`

export async function listTenants(db: Queryable): Promise<Tenant[]> {
  const { rows } = await db.query<TenantRow>(LIST, [null, PLATFORM_TENANT])
  return rows.map(toTenant)
}

export async function findTenant(db: Queryable, tenant: string): Promise<Tenant | null> {
  const { rows } = await db.query<TenantRow>(LIST, [tenant, PLATFORM_TENANT])
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

const SUSPENDED = `
  select key
  from claims
  where tenant = $1 and kind = 'tenant-suspended'
`

/** Those whose calls are refused; the removed ones too. */
export async function listSuspended(db: Queryable): Promise<Set<string>> {
  const statement = { name: 'suspended-tenants', text: SUSPENDED, values: [PLATFORM_TENANT] }
  const { rows } = await db.query<{ key: string }>(statement)
  return new Set(rows.map(({ key }) => key))
}

const THINGS = `
  select (select count(*)::integer from live where tenant = $1) as sandboxes,
         (select count(*)::integer from claims where tenant = $1 and kind = 'volume-name') as volumes,
         (select count(*)::integer from images where tenant = $1 and state in ('importing', 'ready')) as images
`

/** What the tenant has. Images as the read model knows them, a moment late. */
export async function countThings(db: Queryable, tenant: string): Promise<TenantThings> {
  const { rows } = await db.query<TenantThings>(THINGS, [tenant])
  return rows[0]!
}

const REVOKE_TOKENS = `
  update tokens
  set revoked_at = clock_timestamp()
  where tenant = $1 and revoked_at is null
  returning id
`

/** Returns the ids of those that worked until now. */
export async function revokeTokensOf(db: Queryable, tenant: string): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(REVOKE_TOKENS, [tenant])
  return rows.map(({ id }) => id)
}

/** bigint columns arrive as text, or as numbers in JSON. They are below 2^53. */
export interface QuotaColumns {
  quota_sandboxes: number | null
  quota_execs: number | null
  quota_cpu_millis: string | number | null
  quota_memory_bytes: string | number | null
  quota_disk_bytes: string | number | null
  used_sandboxes: number
  used_execs: number
  used_cpu_millis: string | number
  used_memory_bytes: string | number
  used_disk_bytes: string | number
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
  standings: string[] | null
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
    standing: standingOf(row.standings ?? []),
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

function standingOf(kinds: string[]): TenantStanding {
  for (const standing of ['removed', 'removing', 'suspended'] as const) {
    if (kinds.includes(`tenant-${standing}`)) return standing
  }
  return 'active'
}

function toNumber(column: string | number | null): number | null {
  return column === null ? null : Number(column)
}
