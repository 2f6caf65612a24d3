/** The audit of refused calls: counts by tenant, actor, code and action, written a few seconds after the fact. */

import type { Queryable } from '../database.js'

export interface Refusal {
  service: string
  /** null: nobody that we know. */
  tenant: string | null
  /** `token:<id>`, `nats:<tenant>`; null: nobody that we know. */
  actor: string | null
  code: string
  /** The route or the command; never what a caller wrote. */
  action: string
  /** Which quota or rate. */
  detail: string | null
  count: number
  firstAt: Date
  lastAt: Date
}

const INSERT = `
  insert into refusals (service, tenant, actor, code, action, detail, count, first_at, last_at)
  select r.service, r.tenant, r.actor, r.code, r.action, r.detail, r.count, r."firstAt", r."lastAt"
  from jsonb_to_recordset($1::jsonb) as r (
    service text, tenant text, actor text, code text, action text, detail text, count integer,
    "firstAt" timestamptz, "lastAt" timestamptz
  )
`

export async function insertRefusals(db: Queryable, refusals: Refusal[]): Promise<void> {
  await db.query(INSERT, [JSON.stringify(refusals)])
}

export interface RefusalSummary extends Omit<Refusal, 'service'> {
  minute: Date
}

const LIST = `
  select minute, tenant, actor, code, action, detail, count::integer, first_at as "firstAt", last_at as "lastAt"
  from audit_refusals
  where ($1::text is null or tenant = $1) and ($2::timestamptz is null or last_at >= $2)
  order by last_at desc, action, code
  limit $3
`

/** By minute, newest first. `tenant` null: everybody's, those of unknown callers too. */
export async function listRefusals(
  db: Queryable,
  { tenant, since, limit }: { tenant: string | null; since: Date | null; limit: number },
): Promise<RefusalSummary[]> {
  const { rows } = await db.query<RefusalSummary>(LIST, [tenant, since, limit])
  return rows
}

const PURGE = `
  delete from refusals
  where id in (
    select id
    from refusals
    where at < clock_timestamp() - interval '90 days'
    order by id
    limit $1
  )
`

/** Removes refusals older than 90 days, at most `limit`. Returns how many went. */
export async function purgeRefusals(db: Queryable, limit = 1000): Promise<number> {
  const { rowCount } = await db.query(PURGE, [limit])
  return rowCount ?? 0
}
