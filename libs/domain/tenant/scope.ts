/**
 * Whose images a tenant may start from: its own, then those of the platform, which only an operator imports and removes.
 * A name of the tenant's own hides the platform's; nothing else is shared between tenants.
 */

/** A tenant's name: it is part of subjects, of streams and of accounts. */
export const TENANT = /^[a-z0-9][a-z0-9-]{0,30}$/

/** No tenant can be called so. */
export const PLATFORM_TENANT = 'platform'

/** The scopes in which an image's name or id is looked for, in this order. */
export function imageScopes(tenant: string): readonly string[] {
  return tenant === PLATFORM_TENANT ? [PLATFORM_TENANT] : [tenant, PLATFORM_TENANT]
}

export function isReservedTenant(tenant: string): boolean {
  return tenant === PLATFORM_TENANT
}
