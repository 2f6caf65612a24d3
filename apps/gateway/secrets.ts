/**
 * Secrets of the callers: stored sealed, opened only to be copied into the sealed part of the sandbox or exec that
 * names them. A change counts for what is started after it.
 */

import { randomBytes } from 'node:crypto'
import { isId, makeId, Rejected } from '#libs/domain'
import {
  deleteSecret,
  findSecret,
  findSecretByName,
  insertSecret,
  type JsonObject,
  listSecrets,
  purgeSecrets,
  replaceSecret,
  type StoredSecret,
} from '#libs/event-store'
import type { Gateway } from './gateway.js'

/** One that was made for one use outlives the longest sandbox by an hour. */
const ONE_USE_MS = 25 * 3_600_000
/** What an exec's order can carry, see libs/contract. */
const BYTES_MAX = 256 * 1024
const KEY = /^[A-Za-z_][A-Za-z0-9_]{0,255}$/
const NAME = /^[A-Za-z0-9._-]{1,64}$/

export type Values = Record<string, string>

export interface SecretPlace {
  tenant: string
  environment: string
}

/** null: for one use. @throws Rejected INVALID_ARGUMENT, NAME_TAKEN */
export async function createSecret(
  { db, sealer }: Gateway,
  { tenant, environment }: SecretPlace,
  name: string | null,
  values: Values,
): Promise<StoredSecret> {
  check(values)
  if (name !== null && !NAME.test(name)) {
    throw new Rejected('INVALID_ARGUMENT', 'a name has 1 to 64 letters, digits, ".", "_" or "-"')
  }
  const secretId = makeId('st', Date.now(), randomBytes(10))
  const sealed = await sealer.seal(tenant, secretId, values as JsonObject)
  const expiresAt = name === null ? new Date(Date.now() + ONE_USE_MS) : null
  if (name === null) await purgeSecrets(db)
  const secret = { secretId, tenant, environment, name, keys: Object.keys(values), sealed }
  if (await insertSecret(db, { ...secret, expiresAt })) return { ...secret, createdAt: new Date() }
  throw new Rejected('NAME_TAKEN', `a secret called ${name} exists already`)
}

/** Sets keys, removes those whose value is null, leaves the others. @throws Rejected NOT_FOUND, INVALID_ARGUMENT */
export async function updateSecret(
  gateway: Gateway,
  tenant: string,
  secretId: string,
  changes: Record<string, string | null>,
): Promise<void> {
  const values: Record<string, string | null> = {
    ...(await openSecret(gateway, tenant, secretId)),
    ...changes,
  }
  const kept = Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null)) as Values
  await overwriteSecret(gateway, tenant, secretId, kept)
}

/** @throws Rejected NOT_FOUND, INVALID_ARGUMENT */
export async function overwriteSecret(
  { db, sealer }: Gateway,
  tenant: string,
  secretId: string,
  values: Values,
): Promise<void> {
  check(values)
  const sealed = await sealer.seal(tenant, secretId, values as JsonObject)
  if (!(await replaceSecret(db, { tenant, secretId, keys: Object.keys(values), sealed })))
    throw missing(secretId)
}

/** @throws Rejected NOT_FOUND */
export async function openSecret({ db, sealer }: Gateway, tenant: string, secretId: string): Promise<Values> {
  const secret = isId('st', secretId) ? await findSecret(db, tenant, secretId) : null
  if (secret === null) throw missing(secretId)
  return (await sealer.open(tenant, secret.secretId, secret.sealed)) as Values
}

/** @throws Rejected NOT_FOUND */
export async function readSecret(
  { db }: Gateway,
  { tenant, environment }: SecretPlace,
  name: string,
): Promise<StoredSecret> {
  const secret = await findSecretByName(db, tenant, environment, name)
  if (secret !== null) return secret
  throw new Rejected('NOT_FOUND', `Secret '${name.slice(0, 64)}' not found`, {
    hint: '`modal secret create NAME KEY=VALUE` makes one',
  })
}

/** By name; those that were made for one use are not shown. */
export async function secretsOf(
  { db }: Gateway,
  { tenant, environment }: SecretPlace,
): Promise<StoredSecret[]> {
  return await listSecrets(db, tenant, environment)
}

/** @throws Rejected NOT_FOUND */
export async function removeSecret({ db }: Gateway, tenant: string, secretId: string): Promise<void> {
  if (!isId('st', secretId) || !(await deleteSecret(db, tenant, secretId))) throw missing(secretId)
}

function check(values: Values): void {
  const wrong = Object.keys(values).find((key) => !KEY.test(key))
  if (wrong !== undefined) {
    throw new Rejected('INVALID_ARGUMENT', `${JSON.stringify(wrong.slice(0, 80))} is no name of a variable`)
  }
  if (Object.values(values).some((value) => value.includes('\0') || !value.isWellFormed())) {
    throw new Rejected('INVALID_ARGUMENT', 'a value must be well-formed text without NUL')
  }
  if (Buffer.byteLength(JSON.stringify(values)) > BYTES_MAX) {
    throw new Rejected('INVALID_ARGUMENT', 'the values of a secret are at most 256 KiB')
  }
}

function missing(secretId: string): Rejected {
  return new Rejected('NOT_FOUND', `no secret has the id ${JSON.stringify(secretId.slice(0, 80))}`)
}
