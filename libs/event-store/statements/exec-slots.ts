/** Open execs as a counted resource of the tenant, taken and given back in the append's transaction. */

import type { Excess } from '#libs/domain'
import type { Queryable } from '../database.js'
import type { ExecSlotChange } from '../types.js'
import { excessOf } from './excess.js'

const LOCK_QUOTA = `
  -- Only where there is a quota do appends wait for each other, so that two never take the last slot both.
  select from tenants
  where tenant = $1 and quota_execs is not null
  for no key update
`

const TAKE = `
  -- A statement of its own: what others committed before they gave the lock away is counted.
  insert into exec_slots (exec_id, tenant)
  select $1, $2
  where not exists (
    select from tenants
    where tenant = $2 and quota_execs <= (select count(*) from exec_slots where tenant = $2)
  )
  on conflict (exec_id) do nothing
`

const RELEASE = `
  delete from exec_slots
  where exec_id = $1
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
  const [, { rowCount }] = await Promise.all([
    tx.query({ name: 'lock-exec-quota', text: LOCK_QUOTA, values: [tenant] }),
    tx.query({ name: 'take-exec-slot', text: TAKE, values: [execId, tenant] }),
  ])
  return rowCount === 1 ? null : await excessOf(tx, tenant, { execs: 1 })
}
