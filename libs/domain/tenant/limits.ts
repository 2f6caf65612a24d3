/** What a tenant may have at a time. The append enforces it where it is counted; here is which limit was in the way. */

/** null: unlimited. */
export interface TenantQuota {
  /** Alive: from acceptance to terminal event. */
  sandboxes: number | null
  /** Open: from acceptance to terminal event. */
  execs: number | null
  cpuMillis: number | null
  memoryBytes: number | null
  diskBytes: number | null
}

/** By second, and how many at once after a pause. A rate of null: unlimited. */
export interface TenantRates {
  commandsPerSecond: number | null
  commandsBurst: number
  /** HTTP requests, and NATS requests that are no commands of HTTP. */
  requestsPerSecond: number | null
  requestsBurst: number
}

/** Of the tenant's account on the broker. */
export interface TenantNats {
  natsConnections: number
  natsSubscriptions: number
  natsPayloadBytes: number
}

export interface TenantLimits extends TenantQuota, TenantRates, TenantNats {}

export type TenantUse = { [K in keyof TenantQuota]: number }

/**
 * What `tenant create` gives. Sandboxes and execs: above what one host runs, so that only a runaway loop meets them; CPU,
 * memory and disk are bounded by the workers. Rates: about what the services of one small host decide in a second.
 */
export const TENANT_QUOTA_DEFAULT: TenantQuota = {
  sandboxes: 1_000,
  execs: 10_000,
  cpuMillis: null,
  memoryBytes: null,
  diskBytes: null,
}

/** Of a tenant that has no row yet; the table's own defaults are the same. */
export const TENANT_RATES_DEFAULT: TenantRates = {
  commandsPerSecond: 500,
  commandsBurst: 2_000,
  requestsPerSecond: 1_000,
  requestsBurst: 4_000,
}

export interface Excess {
  quota: keyof TenantQuota
  limit: number
  used: number
  asked: number
}

/** The first quota that does not hold `asked` beside what is used, or null. */
export function exceededQuota(quota: TenantQuota, used: TenantUse, asked: Partial<TenantUse>): Excess | null {
  for (const name of Object.keys(quota) as (keyof TenantQuota)[]) {
    const limit = quota[name]
    const more = asked[name] ?? 0
    if (limit !== null && more > 0 && used[name] + more > limit) {
      return { quota: name, limit, used: used[name], asked: more }
    }
  }
  return null
}
