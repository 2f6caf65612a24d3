/** Tenants as operators administer them. The row is what counts: the append and every service read it. */

import {
  isReservedTenant,
  Rejected,
  TENANT_QUOTA_DEFAULT,
  TENANT_RATES_DEFAULT,
  type TenantLimits,
  type TenantUse,
} from '#libs/domain'
import {
  type Database,
  ensureTenant,
  findTenant,
  listTenants,
  type Queryable,
  setTenantLimits,
  type Tenant,
  transaction,
} from '#libs/event-store'
import { TENANT } from '#libs/messaging'

export interface TenantView {
  tenant: string
  /** null: nothing was ever set or counted for it. */
  createdAt: string | null
  limits: Partial<TenantLimits>
  used: TenantUse
}

/** @throws Rejected INVALID_ARGUMENT, NAME_TAKEN */
export async function createTenant(
  db: Database,
  tenant: string,
  limits: Partial<TenantLimits>,
): Promise<TenantView> {
  if (!TENANT.test(tenant) || isReservedTenant(tenant)) {
    throw new Rejected(
      'INVALID_ARGUMENT',
      `tenant: ${JSON.stringify(tenant.slice(0, 40))} cannot be a tenant's name`,
      {
        hint: 'use 1 to 31 lower-case letters, digits and "-"; "platform" is reserved',
      },
    )
  }
  const isNew = await transaction(db, async (tx) => {
    if (!(await ensureTenant(tx, tenant))) return false
    return await setTenantLimits(tx, tenant, { ...TENANT_QUOTA_DEFAULT, ...limits })
  })
  if (!isNew) {
    throw new Rejected('NAME_TAKEN', `the tenant ${tenant} is there already`, {
      hint: '`sandtrail tenant set` changes its limits, `sandtrail tenant token` makes a token for it',
    })
  }
  return await readTenant(db, tenant)
}

/** @throws Rejected NOT_FOUND */
export async function setLimits(
  db: Queryable,
  tenant: string,
  limits: Partial<TenantLimits>,
): Promise<TenantView> {
  if (!(await setTenantLimits(db, tenant, limits))) throw noTenant(tenant)
  return await readTenant(db, tenant)
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
  return { tenant, createdAt: null, limits: TENANT_RATES_DEFAULT, used }
}

export async function readTenants(db: Queryable): Promise<TenantView[]> {
  return (await listTenants(db)).map(toView)
}

function toView({ tenant, createdAt, limits, used }: Tenant): TenantView {
  return { tenant, createdAt: createdAt.toISOString(), limits, used }
}

function noTenant(tenant: string): Rejected {
  return new Rejected('NOT_FOUND', `no tenant is called ${JSON.stringify(tenant.slice(0, 80))}`, {
    hint: 'see `sandtrail tenant ls`',
  })
}
