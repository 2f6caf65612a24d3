/** Which tenant has uploaded which blob: to know a digest is no permission. */

import type { Queryable } from '../database.js'

const NOTE = `
  insert into uploads (tenant, sha256)
  values ($1, $2)
  on conflict (tenant, sha256) do nothing
`

export async function noteUpload(db: Queryable, tenant: string, sha256: string): Promise<void> {
  await db.query(NOTE, [tenant, sha256])
}

const FIND = `
  select from uploads
  where tenant = $1 and sha256 = $2
`

export async function hasUploaded(db: Queryable, tenant: string, sha256: string): Promise<boolean> {
  const { rowCount } = await db.query(FIND, [tenant, sha256])
  return rowCount === 1
}
