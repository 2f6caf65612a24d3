/** Which quota refused: asked only after a refusal, in the transaction that will be rolled back. */

import { type Excess, exceededQuota, type TenantUse } from '#libs/domain'
import type { Queryable } from '../database.js'
import { type QuotaColumns, quotaOf, USED_EXECS } from '../tables/tenants.js'

const SELECT = `
  select quota_sandboxes, quota_execs, quota_cpu_millis, quota_memory_bytes, quota_disk_bytes,
         used_sandboxes, ${USED_EXECS}, used_cpu_millis, used_memory_bytes, used_disk_bytes
  from tenants t
  where tenant = $1
`

export async function excessOf(tx: Queryable, tenant: string, asked: Partial<TenantUse>): Promise<Excess> {
  const { rows } = await tx.query<QuotaColumns>({ name: 'select-quota', text: SELECT, values: [tenant] })
  const { quota, used } = quotaOf(rows[0]!)
  // Room that another append has given back since: told as it was, all of it in use.
  const full = { sandboxes: 0, execs: 0, cpuMillis: 0, memoryBytes: 0, diskBytes: 0 }
  for (const name of Object.keys(full) as (keyof TenantUse)[]) full[name] = quota[name] ?? 0
  return exceededQuota(quota, used, asked) ?? exceededQuota(quota, full, asked)!
}
