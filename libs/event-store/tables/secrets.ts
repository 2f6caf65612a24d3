/** Secrets of the callers. The values are sealed; what is looked up (names, keys) is not. */

import type { Queryable } from '../database.js'

export interface StoredSecret {
  secretId: string
  tenant: string
  environment: string
  /** null: made for one use. */
  name: string | null
  keys: string[]
  /** By the sealer, for this tenant and this id. */
  sealed: Buffer
  createdAt: Date
}

const COLUMNS = `
  secret_id as "secretId", tenant, environment, name, keys, sealed, created_at as "createdAt"
`

const INSERT = `
  insert into secrets (secret_id, tenant, environment, name, keys, sealed, expires_at)
  values ($1, $2, $3, $4, $5, $6, $7)
  on conflict (tenant, environment, name) where name is not null do nothing
`

export type NewSecret = Omit<StoredSecret, 'createdAt'> & { expiresAt: Date | null }

/** False when the name is taken. */
export async function insertSecret(
  db: Queryable,
  { secretId, tenant, environment, name, keys, sealed, expiresAt }: NewSecret,
): Promise<boolean> {
  const values = [secretId, tenant, environment, name, keys, sealed, expiresAt]
  const { rowCount } = await db.query(INSERT, values)
  return rowCount === 1
}

const REPLACE = `
  update secrets
  set keys = $3, sealed = $4, version = version + 1, changed_at = clock_timestamp()
  where tenant = $1 and secret_id = $2
`

export async function replaceSecret(
  db: Queryable,
  { tenant, secretId, keys, sealed }: Pick<StoredSecret, 'tenant' | 'secretId' | 'keys' | 'sealed'>,
): Promise<boolean> {
  const { rowCount } = await db.query(REPLACE, [tenant, secretId, keys, sealed])
  return rowCount === 1
}

const BY_ID = `
  select ${COLUMNS}
  from secrets
  where tenant = $1 and secret_id = $2 and (expires_at is null or expires_at > clock_timestamp())
`

export async function findSecret(
  db: Queryable,
  tenant: string,
  secretId: string,
): Promise<StoredSecret | null> {
  const { rows } = await db.query<StoredSecret>(BY_ID, [tenant, secretId])
  return rows[0] ?? null
}

const BY_NAME = `
  select ${COLUMNS}
  from secrets
  where tenant = $1 and environment = $2 and name = $3
`

export async function findSecretByName(
  db: Queryable,
  tenant: string,
  environment: string,
  name: string,
): Promise<StoredSecret | null> {
  const { rows } = await db.query<StoredSecret>(BY_NAME, [tenant, environment, name])
  return rows[0] ?? null
}

const LIST = `
  select ${COLUMNS}
  from secrets
  where tenant = $1 and environment = $2 and name is not null
  order by name
`

export async function listSecrets(
  db: Queryable,
  tenant: string,
  environment: string,
): Promise<StoredSecret[]> {
  return (await db.query<StoredSecret>(LIST, [tenant, environment])).rows
}

const DELETE = `
  delete from secrets
  where tenant = $1 and secret_id = $2
`

export async function deleteSecret(db: Queryable, tenant: string, secretId: string): Promise<boolean> {
  const { rowCount } = await db.query(DELETE, [tenant, secretId])
  return rowCount === 1
}

const PURGE = `
  delete from secrets
  where expires_at < clock_timestamp()
`

/** Those that were made for one use, long enough ago. */
export async function purgeSecrets(db: Queryable): Promise<number> {
  return (await db.query(PURGE)).rowCount ?? 0
}
