/** Tenants as operators see them. What is decided about one is the scheduler's to record, in a stream of the platform. */

import {
  PLATFORM_TENANT,
  Rejected,
  TENANT_RATES_DEFAULT,
  type TenantLimits,
  type TenantUse,
} from '#libs/domain'
import {
  findTenant,
  listTenants,
  type Queryable,
  type RecordedEvent,
  readAdministration,
  type Tenant,
  type TenantStanding,
} from '#libs/event-store'

export interface TenantView {
  tenant: string
  /** `removing`: what it has is being ended and removed. */
  state: TenantStanding
  /** null: nothing was ever set or counted for it. */
  createdAt: string | null
  limits: Partial<TenantLimits>
  used: TenantUse
}

/** @throws Rejected NOT_FOUND */
export async function readTenant(db: Queryable, tenant: string): Promise<TenantView> {
  const found = await findTenant(db, tenant)
  if (found === null) throw noTenant(tenant)
  return toView(found)
}

/** Of a tenant that has a token, with or without a row. */
export async function viewOfUnlimited(db: Queryable, tenant: string): Promise<TenantView> {
  const found = await findTenant(db, tenant)
  if (found !== null) return toView(found)
  const used = { sandboxes: 0, execs: 0, cpuMillis: 0, memoryBytes: 0, diskBytes: 0 }
  return { tenant, state: 'active', createdAt: null, limits: TENANT_RATES_DEFAULT, used }
}

export async function readTenants(db: Queryable): Promise<TenantView[]> {
  return (await listTenants(db)).map(toView)
}

/** What was decided about the tenant and its tokens, and by whom. @throws Rejected NOT_FOUND */
export async function tenantEvents(db: Queryable, tenant: string): Promise<RecordedEvent[]> {
  await readTenant(db, tenant)
  return await readAdministration(db, PLATFORM_TENANT, tenant)
}

function toView({ tenant, standing, createdAt, limits, used }: Tenant): TenantView {
  return { tenant, state: standing, createdAt: createdAt.toISOString(), limits, used }
}

function noTenant(tenant: string): Rejected {
  return new Rejected('NOT_FOUND', `no tenant is called ${JSON.stringify(tenant.slice(0, 80))}`, {
    hint: 'see `sandtrail tenant ls`',
  })
}
