/** Claims: names and other keys that one stream of a tenant holds at a time. */

import type { Queryable } from '../database.js'
import type { Claim } from '../types.js'

const RELEASE = `
  -- Only the holder's own: releasing what another holds by now changes nothing.
  delete from claims c
  using jsonb_to_recordset($2::jsonb) as r (kind text, key text, holder text)
  where c.tenant = $1 and c.kind = r.kind and c.key = r.key and c.holder = r.holder
`

export async function releaseClaims(tx: Queryable, tenant: string, claims: Claim[]): Promise<void> {
  const values = [tenant, JSON.stringify(inOrder(claims))]
  await tx.query({ name: 'release-claims', text: RELEASE, values })
}

const TAKE = `
  -- A holder may take its own claim again. One that another is just taking is waited for.
  insert into claims as c (tenant, kind, key, holder)
  select $1, r.kind, r.key, r.holder
  from jsonb_to_recordset($2::jsonb) as r (kind text, key text, holder text)
  on conflict (tenant, kind, key) do update
  set at = c.at
  where c.holder = excluded.holder
  returning kind, key
`

/** Returns the first claim that another holder has, or null when all are taken now. */
export async function takeClaims(tx: Queryable, tenant: string, claims: Claim[]): Promise<Claim | null> {
  const values = [tenant, JSON.stringify(inOrder(claims))]
  const { rows } = await tx.query<{ kind: string; key: string }>({ name: 'take-claims', text: TAKE, values })
  return missingFrom(rows, claims)
}

const REQUIRE = `
  -- Share: those who build on one volume do not wait for each other, but its removal waits for them and they for it.
  select c.kind, c.key
  from claims c
  join jsonb_to_recordset($2::jsonb) as r (kind text, key text, holder text)
    on c.kind = r.kind and c.key = r.key and c.holder = r.holder
  where c.tenant = $1
  order by c.kind, c.key
  for share of c
`

/** Returns the first claim that its holder has not, or not any more; null when all are as they should be, and stay so. */
export async function requireClaims(tx: Queryable, tenant: string, claims: Claim[]): Promise<Claim | null> {
  const values = [tenant, JSON.stringify(inOrder(claims))]
  const { rows } = await tx.query<Claim>({ name: 'require-claims', text: REQUIRE, values })
  return missingFrom(rows, claims)
}

function missingFrom(rows: { kind: string; key: string }[], claims: Claim[]): Claim | null {
  const there = new Set(rows.map((row) => JSON.stringify([row.kind, row.key])))
  return claims.find((claim) => !there.has(JSON.stringify([claim.kind, claim.key]))) ?? null
}

/** One order for everybody, so that two appends that want the same two claims never wait for each other. */
function inOrder(claims: Claim[]): Claim[] {
  const rank = (claim: Claim) => JSON.stringify([claim.kind, claim.key])
  return [...claims].sort((a, b) => (rank(a) < rank(b) ? -1 : 1))
}

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
