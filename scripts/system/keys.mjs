/**
 * The keys of one installation, each made once, in files of mode 0600 below `keys/`. Services get paths; a key never
 * stands in an argument or in the environment.
 */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findCertificates } from './certificates.mjs'

/** The tenant that a fresh installation has. */
export const TENANT = 'default'
/** Whose account on the broker is the operators'. */
export const PLATFORM = 'platform'

/**
 * @typedef {{ user: string, password: string }} Login
 * @typedef {{ id: string, nkeyPublic: string, credentialsFile: string }} WorkerIdentity
 */

/**
 * Makes what is missing.
 *
 * @param {string} dir state directory of the system @param {number} workers
 * @returns {Promise<{ path: (name: string) => string, platform: Login, operator: Login, tenant: Login, route: Login,
 *   tenantLogin: (tenant: string) => Login, service: Login, auditor: Login, workers: WorkerIdentity[],
 *   certificates: import('./certificates.mjs').Certificates | null }>} `certificates`: null without TLS
 */
export async function ensureKeys(dir, workers) {
  const home = join(dir, 'keys')
  mkdirSync(home, { recursive: true, mode: 0o700 })
  const path = (/** @type {string} */ name) => join(home, name)

  for (const name of ['master.key', 'blob.key']) once(path(name), () => randomBytes(32).toString('base64'))
  for (const name of ['trail', 'data-plane']) ensureSigningKey(path(name))
  await ensureVerifierKey(path)
  return {
    path,
    platform: ensureLogin(path('platform.json'), 'platform'),
    operator: ensureLogin(path('operator.json'), 'operator'),
    tenant: ensureTenantLogin(path, TENANT),
    // What the servers of a cluster show each other.
    route: ensureLogin(path('nats-route.json'), 'route'),
    tenantLogin: (tenant) => ensureTenantLogin(path, tenant),
    service: ensureLogin(path('database-service.json'), 'sandtrail_services'),
    auditor: ensureLogin(path('database-auditor.json'), 'sandtrail_audit'),
    certificates: findCertificates(path),
    workers: await Promise.all(Array.from({ length: workers }, (_, index) => ensureWorker(path, index + 1))),
  }
}

/** `<base>.key` and `<base>.pub`: Ed25519, PKCS#8 and SPKI. @param {string} base */
function ensureSigningKey(base) {
  if (existsSync(`${base}.key`) && existsSync(`${base}.pub`)) return
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  write(`${base}.pub`, publicKey.export({ type: 'spki', format: 'pem' }).toString())
  write(`${base}.key`, privateKey.export({ type: 'pkcs8', format: 'pem' }).toString())
}

/** `trail.vkey`: what `verify` checks the trail's signatures with, a C2SP line. @param {(name: string) => string} path */
async function ensureVerifierKey(path) {
  if (existsSync(path('trail.vkey'))) return
  const { loadSigner } = await import('#libs/event-store')
  write(path('trail.vkey'), loadSigner(path('trail.key'), 'sandtrail').publicKey)
}

/**
 * User names are one name space for all accounts: a tenant may be called like a service.
 * @param {(name: string) => string} path @param {string} tenant
 */
function ensureTenantLogin(path, tenant) {
  return ensureLogin(path(`tenant-${tenant}.json`), tenant === TENANT ? tenant : `tenant-${tenant}`)
}

/** The old password is void when the broker has read the new one. @param {string} path of the login's file */
export function rotateLogin(path) {
  const { user } = JSON.parse(readFileSync(path, 'utf8'))
  write(path, newLogin(user))
}

const newLogin = (/** @type {string} */ user) =>
  JSON.stringify({ user, password: randomBytes(24).toString('hex') })

/** @param {string} path @param {string} user @returns {Login} */
function ensureLogin(path, user) {
  once(path, () => newLogin(user))
  return JSON.parse(readFileSync(path, 'utf8'))
}

/**
 * `worker-<n>.id` holds the worker's id, `worker-<n>.json` its nkey seed, `worker-<n>.pub` the public half.
 * @param {(name: string) => string} path @param {number} n @returns {Promise<WorkerIdentity>}
 */
async function ensureWorker(path, n) {
  const credentialsFile = path(`worker-${n}.json`)
  if (!existsSync(credentialsFile)) {
    const { createWorkerIdentity } = await import('#libs/messaging')
    const { makeId } = await import('#libs/domain')
    const { seed, publicKey } = createWorkerIdentity()
    write(path(`worker-${n}.pub`), publicKey)
    write(path(`worker-${n}.id`), makeId('wk', Date.now(), randomBytes(10)))
    // Last: it is what says that the worker has all of its files.
    write(credentialsFile, JSON.stringify({ nkeySeed: seed }))
  }
  return {
    id: readFileSync(path(`worker-${n}.id`), 'utf8'),
    nkeyPublic: readFileSync(path(`worker-${n}.pub`), 'utf8'),
    credentialsFile,
  }
}

/** @param {string} path @param {() => string} make */
export function once(path, make) {
  if (!existsSync(path)) write(path, make())
}

/** @param {string} path @param {string} content */
function write(path, content) {
  writeFileSync(`${path}.new`, content, { mode: 0o600 })
  renameSync(`${path}.new`, path)
}
