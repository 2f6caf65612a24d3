/** Open execs as a counted resource of the tenant, taken and given back in the append's transaction. */

import type { Excess } from '#libs/domain'
import type { Queryable } from '../database.js'
import type { ExecSlotChange } from '../types.js'
import { excessOf } from './excess.js'

const TAKE = `
  -- The tenant's row is locked by the update, so that two appends never take the last slot both.
  with slot as (
    insert into exec_slots (exec_id, tenant)
    values ($1, $2)
    on conflict (exec_id) do nothing
    returning tenant
  )
  insert into tenants as t (tenant, used_execs)
  select tenant, 1 from slot
  on conflict (tenant) do update
  set used_execs = t.used_execs + 1
  where t.quota_execs is null or t.used_execs + 1 <= t.quota_execs
`

const RELEASE = `
  with gone as (
    delete from exec_slots
    where exec_id = $1
    returning tenant
  )
  update tenants t
  set used_execs = used_execs - 1
  from gone
  where t.tenant = gone.tenant
`

/** Null, or which quota is in the way. A release may come twice, or for an exec that never had a slot. */
export async function changeExecSlot(
  tx: Queryable,
  tenant: string,
  { action, execId }: ExecSlotChange,
): Promise<Excess | null> {
  if (action === 'release') {
    await tx.query({ name: 'release-exec-slot', text: RELEASE, values: [execId] })
    return null
  }
  const { rowCount } = await tx.query({ name: 'take-exec-slot', text: TAKE, values: [execId, tenant] })
  return rowCount === 1 ? null : await excessOf(tx, tenant, { execs: 1 })
}
