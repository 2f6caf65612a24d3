/** Claims: names and other keys that one stream of a tenant holds at a time. */

import type { Queryable } from '../database.js'

const FIND = `
  select holder
  from claims
  where tenant = $1 and kind = $2 and key = $3
`

/** The stream that holds the claim, or null. */
export async function findClaim(
  db: Queryable,
  tenant: string,
  kind: string,
  key: string,
): Promise<string | null> {
  const { rows } = await db.query<{ holder: string }>(FIND, [tenant, kind, key])
  return rows[0]?.holder ?? null
}
