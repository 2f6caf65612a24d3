/** API tokens. The secret is shown once; the database has its sha256, which is looked up, never compared by byte. */

import { createHash, randomBytes } from 'node:crypto'
import { PLATFORM_TENANT } from '#libs/domain'
import type { Queryable } from '../database.js'

export interface Token {
  id: string
  tenant: string
  name: string
  /** May administer tenants and shared images. */
  operator: boolean
  createdAt: Date
  revokedAt: Date | null
}

const INSERT = `
  insert into tokens (id, tenant, name, secret_hash, operator)
  values ($1, $2, $3, $4, $5)
`

export interface TokenSecret {
  id: string
  secret: string
}

/** In the shape of Modal's (`ak-…`, `as-…`). The secret has 192 random bits: no salt needed. */
export function newToken(): TokenSecret {
  return {
    id: `ak-${randomBytes(12).toString('base64url')}`,
    secret: `as-${randomBytes(24).toString('base64url')}`,
  }
}

/** From now on it works. */
export async function createToken(
  db: Queryable,
  { tenant, name, operator = false }: { tenant: string; name: string; operator?: boolean },
  { id, secret }: TokenSecret = newToken(),
): Promise<TokenSecret> {
  await db.query(INSERT, [id, tenant, name, hashOf(secret), operator])
  return { id, secret }
}

const FIND = `
  select id, tenant, name, operator, created_at as "createdAt", revoked_at as "revokedAt",
         exists (select from claims c where c.tenant = $3 and c.kind = 'tenant-suspended' and c.key = t.tenant) as suspended
  from tokens t
  where secret_hash = $1 and revoked_at is null and ($2::text is null or id = $2)
`

/** The token of this secret, or null: unknown, revoked, or (with `id`) another token's secret. */
export async function findToken(
  db: Queryable,
  secret: string,
  id?: string,
): Promise<(Token & { suspended: boolean }) | null> {
  const values = [hashOf(secret), id ?? null, PLATFORM_TENANT]
  const { rows } = await db.query<Token & { suspended: boolean }>({ name: 'find-token', text: FIND, values })
  return rows[0] ?? null
}

const FIND_REVOKED = `
  select id, tenant, name, operator, created_at as "createdAt", revoked_at as "revokedAt"
  from tokens
  where secret_hash = $1 and revoked_at is not null
`

/** For the audit: whose token it was that is refused now. */
export async function findRevokedToken(db: Queryable, secret: string): Promise<Token | null> {
  const { rows } = await db.query<Token>(FIND_REVOKED, [hashOf(secret)])
  return rows[0] ?? null
}

const REVOKE = `
  update tokens
  set revoked_at = clock_timestamp()
  where tenant = $1 and id = $2 and revoked_at is null
`

/** False when the tenant has no such token in use. */
export async function revokeToken(db: Queryable, tenant: string, id: string): Promise<boolean> {
  const { rowCount } = await db.query(REVOKE, [tenant, id])
  return rowCount === 1
}

const FIND_BY_ID = `
  select id, tenant, name, operator, created_at as "createdAt", revoked_at as "revokedAt"
  from tokens
  where tenant = $1 and id = $2
`

/** In use or revoked. */
export async function findTokenById(db: Queryable, tenant: string, id: string): Promise<Token | null> {
  const { rows } = await db.query<Token>(FIND_BY_ID, [tenant, id])
  return rows[0] ?? null
}

const LIST = `
  select id, tenant, name, operator, created_at as "createdAt", revoked_at as "revokedAt"
  from tokens
  where tenant = $1
  order by created_at, id
`

export async function listTokens(db: Queryable, tenant: string): Promise<Token[]> {
  const { rows } = await db.query<Token>(LIST, [tenant])
  return rows
}

function hashOf(secret: string): Buffer {
  return createHash('sha256').update(secret).digest()
}
