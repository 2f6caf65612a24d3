/** Open execs as a counted resource of the tenant, taken and given back in the append's transaction. */

import type { Excess } from '#libs/domain'
import type { Queryable } from '../database.js'
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
  select unnest($1::text[]), $2
  where not exists (
    select from tenants
    where tenant = $2
      and quota_execs is not null
      and quota_execs < cardinality($1::text[]) + (select count(*) from exec_slots where tenant = $2)
  )
  on conflict (exec_id) do nothing
`

/** All of them, or none: then which quota is in the way of one. */
export async function takeExecSlots(
  tx: Queryable,
  tenant: string,
  execIds: string[],
): Promise<Excess | null> {
  const [, { rowCount }] = await Promise.all([
    tx.query({ name: 'lock-exec-quota', text: LOCK_QUOTA, values: [tenant] }),
    tx.query({ name: 'take-exec-slots', text: TAKE, values: [execIds, tenant] }),
  ])
  return rowCount === execIds.length ? null : await excessOf(tx, tenant, { execs: 1 })
}

const RELEASE = `
  delete from exec_slots
  where exec_id = any($1::text[])
`

/** May come twice, or for an exec that never had a slot. */
export async function releaseExecSlots(tx: Queryable, execIds: string[]): Promise<void> {
  await tx.query({ name: 'release-exec-slots', text: RELEASE, values: [execIds] })
}
