/**
 * Tenants' accounts on the broker. The table of tenants is what counts; what it said last is remembered beside the
 * broker's configuration, so that the broker starts with it before the database does. Logins are in the keys directory.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PLATFORM, TENANT } from './keys.mjs'

/** @typedef {{ name: string, limits: { connections: number, subscriptions: number, payloadBytes: number } }} TenantAccount */

/** @param {string} databaseUrl @returns {Promise<TenantAccount[]>} */
export async function readTenants(databaseUrl) {
  const { isReservedTenant } = await import('#libs/domain')
  const { listTenants, openDatabase } = await import('#libs/event-store')
  const db = openDatabase({ url: databaseUrl, max: 1, name: 'tenants' })
  try {
    return (await listTenants(db))
      .filter(({ tenant, standing }) => !isReservedTenant(tenant) && standing !== 'removed')
      .map(({ tenant, limits }) => ({
        name: tenant,
        limits: {
          connections: limits.natsConnections,
          subscriptions: limits.natsSubscriptions,
          payloadBytes: limits.natsPayloadBytes,
        },
      }))
  } finally {
    await db.end()
  }
}

/** @param {string} dir @param {TenantAccount[]} tenants */
export function rememberTenants(dir, tenants) {
  const path = rememberedIn(dir)
  mkdirSync(join(dir, 'nats'), { recursive: true, mode: 0o700 })
  writeFileSync(`${path}.new`, JSON.stringify(tenants), { mode: 0o600 })
  renameSync(`${path}.new`, path)
}

/** @param {string} dir @returns {TenantAccount[]} */
export function rememberedTenants(dir) {
  try {
    return JSON.parse(readFileSync(rememberedIn(dir), 'utf8'))
  } catch {
    return [] // The first start.
  }
}

const rememberedIn = (/** @type {string} */ dir) => join(dir, 'nats', 'tenants.json')

/**
 * The accounts of `renderNatsConfig`. Makes the logins that are missing.
 * @param {Awaited<ReturnType<typeof import('./keys.mjs').ensureKeys>>} keys @param {TenantAccount[]} tenants
 */
export function natsAccounts(keys, tenants) {
  const known = tenants.some(({ name }) => name === TENANT)
  const all = known ? tenants : [{ name: TENANT }, ...tenants]
  return {
    tenants: [
      ...all.map((tenant) => ({ ...tenant, users: [keys.tenantLogin(tenant.name)] })),
      { name: PLATFORM, users: [keys.operator] },
    ],
    platformUsers: [keys.platform],
    workers: keys.workers.map(({ id, nkeyPublic }) => ({ id, nkeyPublic })),
  }
}
