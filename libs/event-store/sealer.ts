/**
 * Seals what must be forgettable: AES-256-GCM under a key of the tenant, which is wrapped by a master key that is never
 * in the database. Destroying a tenant's key erases everything sealed under it; the hash chain covers the ciphertext
 * and still verifies.
 *
 *   sealed = 1 | key id (16) | nonce (12) | ciphertext | tag (16)        bound to tenant, stream and field
 */

import { createCipheriv, createDecipheriv, randomBytes, randomUUID } from 'node:crypto'
import { SandtrailError } from '#libs/domain'
import type { Queryable } from './database.js'
import { storableJson } from './json.js'
import type { JsonObject } from './types.js'

const FORM = 1
const KEY_BYTES = 32
const ID_BYTES = 16
const NONCE_BYTES = 12
const TAG_BYTES = 16

/** How long an unwrapped key is kept in memory: by then a destroyed key is gone from every process. */
const CACHE_MS = 60_000

interface TenantKey {
  id: string
  key: Buffer
}

export class Sealer {
  private readonly cache = new Map<string, { key: Buffer; until: number }>()

  /** `masterKey`: 32 bytes. */
  constructor(
    private readonly db: Queryable,
    private readonly masterKey: Buffer,
  ) {
    if (masterKey.length !== KEY_BYTES) {
      throw new SandtrailError(
        'INVALID_ARGUMENT',
        `the master key has ${masterKey.length} bytes, not ${KEY_BYTES}`,
      )
    }
  }

  /** For `NewEvent.sealed`. The first use makes the tenant's key. */
  async seal(tenant: string, stream: string, value: JsonObject, field = 'sealed'): Promise<Buffer> {
    const { id, key } = await this.keyInUse(tenant)
    const head = Buffer.concat([Buffer.from([FORM]), uuidBytes(id)])
    const plain = Buffer.from(storableJson(value, field))
    return Buffer.concat([head, encrypt(key, plain, aad(tenant, stream, field))])
  }

  /** Throws NOT_FOUND when the key was destroyed, INTERNAL when it was not sealed here, for this place, like this. */
  async open(tenant: string, stream: string, sealed: Buffer, field = 'sealed'): Promise<JsonObject> {
    if (sealed[0] !== FORM || sealed.length < 1 + ID_BYTES + NONCE_BYTES + TAG_BYTES) {
      throw new SandtrailError('INTERNAL', `what is sealed in ${stream} has an unknown form`)
    }
    const key = await this.keyById(tenant, uuidText(sealed.subarray(1, 1 + ID_BYTES)))
    const plain = decrypt(key, sealed.subarray(1 + ID_BYTES), aad(tenant, stream, field))
    return JSON.parse(plain.toString())
  }

  /** Erases what the tenant has sealed so far; other processes may still open it for a minute. Cannot be undone. */
  async destroyKeys(tenant: string): Promise<void> {
    this.cache.clear()
    await this.db.query(DESTROY, [tenant])
  }

  private async keyInUse(tenant: string): Promise<TenantKey> {
    const found = await this.findInUse(tenant)
    if (found !== null) return found
    const id = randomUUID()
    const wrapped = encrypt(this.masterKey, randomBytes(KEY_BYTES), aad(tenant, id, 'key'))
    await this.db.query(INSERT, [id, tenant, wrapped])
    // Another process may have been first: then its key is the one in use.
    return (await this.findInUse(tenant)) as TenantKey
  }

  private async findInUse(tenant: string): Promise<TenantKey | null> {
    const { rows } = await this.db.query<{ id: string; wrapped: Buffer }>(IN_USE, [tenant])
    const [row] = rows
    return row ? { id: row.id, key: this.unwrap(tenant, row.id, row.wrapped) } : null
  }

  private async keyById(tenant: string, id: string): Promise<Buffer> {
    const cached = this.cache.get(`${tenant} ${id}`)
    if (cached && cached.until > performance.now()) return cached.key
    const { rows } = await this.db.query<{ wrapped: Buffer | null }>(BY_ID, [tenant, id])
    const [row] = rows
    if (row?.wrapped) return this.unwrap(tenant, id, row.wrapped)
    throw new SandtrailError('NOT_FOUND', `the key of ${tenant} that sealed this is destroyed: it is erased`)
  }

  private unwrap(tenant: string, id: string, wrapped: Buffer): Buffer {
    const key = decrypt(this.masterKey, wrapped, aad(tenant, id, 'key'))
    this.cache.set(`${tenant} ${id}`, { key, until: performance.now() + CACHE_MS })
    return key
  }
}

const IN_USE = `
  select key_id as id, wrapped
  from tenant_keys
  where tenant = $1 and destroyed_at is null
`
const BY_ID = `
  select wrapped
  from tenant_keys
  where tenant = $1 and key_id = $2
`
const INSERT = `
  insert into tenant_keys (key_id, tenant, wrapped)
  values ($1, $2, $3)
  on conflict (tenant) where destroyed_at is null do nothing
`
const DESTROY = `
  update tenant_keys
  set wrapped = null, destroyed_at = clock_timestamp()
  where tenant = $1 and destroyed_at is null
`

function encrypt(key: Buffer, plain: Buffer, bound: Buffer): Buffer {
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(bound)
  return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()])
}

function decrypt(key: Buffer, sealed: Buffer, bound: Buffer): Buffer {
  const nonce = sealed.subarray(0, NONCE_BYTES)
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES })
  decipher.setAAD(bound).setAuthTag(sealed.subarray(-TAG_BYTES))
  try {
    return Buffer.concat([decipher.update(sealed.subarray(NONCE_BYTES, -TAG_BYTES)), decipher.final()])
  } catch (cause) {
    throw new SandtrailError(
      'INTERNAL',
      'what is sealed does not open: it was changed, moved, or another key sealed it',
      {
        cause,
      },
    )
  }
}

/** As JSON, so that no two places have the same text. */
function aad(...parts: string[]): Buffer {
  return Buffer.from(JSON.stringify(parts))
}

function uuidBytes(id: string): Buffer {
  return Buffer.from(id.replaceAll('-', ''), 'hex')
}

function uuidText(bytes: Buffer): string {
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}
