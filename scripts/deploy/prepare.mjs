/**
 * prepare.mjs DIR ADMIN_URL [WORKERS [HOST...]]: what docker-compose.yml needs, in DIR (mode 0700), made once; run it again after
 * an upgrade, for the migrations, and when a tenant was made or its limits on the broker were changed: then reload the
 * brokers twice (docs/tenants.md).
 *
 *   keys/           every key and credential, one file each; the certificates of gateway and brokers, renewed by a run
 *                   within 30 days of their end, and ca.pem, which clients need
 *   nats-<n>.conf   of the three brokers of the cluster, with an account per tenant
 *   env             for `docker-compose --env-file`: the services' database URL, the worker's id
 *
 * HOST: names and addresses by which clients reach gateway and brokers. ADMIN_URL: a superuser's, of the database to
 * use; with `sslmode=verify-full` unless it is on this host. Append the authority of its certificate to keys/ca.pem where
 * that is not one of the system's. The services get a login of their own, which cannot change events.
 */
import { chownSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { ensureCertificates } from '../system/certificates.mjs'
import { prepareSchema, withLogin } from '../system/database.mjs'
import { ensureKeys } from '../system/keys.mjs'
import { natsAccounts, readTenants } from '../system/tenants.mjs'

// The user of the services in the image (`node`); only the worker runs as root there.
const CONTAINER_UID = 1000

const [directory, adminUrl, workers = '1', ...hosts] = process.argv.slice(2)
if (directory === undefined || adminUrl === undefined) {
  console.error('usage: prepare.mjs DIR ADMIN_URL [WORKERS [HOST...]]')
  process.exit(2)
}
const dir = resolve(directory)
const write = (/** @type {string} */ name, /** @type {string} */ text) =>
  writeFileSync(join(dir, name), text, { mode: 0o600 })

mkdirSync(dir, { recursive: true, mode: 0o700 })
const keys = await ensureKeys(dir, Number(workers))
const brokers = ['nats-1', 'nats-2', 'nats-3']
await ensureCertificates(keys.path, [...brokers, ...hosts])
await prepareSchema(adminUrl, keys)

const tenants = await readTenants(adminUrl)
// Makes the logins that are missing, so before the files are given away.
const accounts = natsAccounts(keys, tenants)
const keysDir = join(dir, 'keys')
// The authority's key is for this script alone: no service gets it.
const given = readdirSync(keysDir).filter((name) => name !== 'ca.key')
for (const path of [keysDir, ...given.map((name) => join(keysDir, name))]) {
  chownSync(path, CONTAINER_UID, CONTAINER_UID)
}

const { renderNatsConfig } = await import('#libs/messaging')
for (const name of brokers) {
  const routes = brokers.filter((other) => other !== name).map((other) => `nats://${other}:6222`)
  const cluster = {
    serverName: name,
    name: 'sandtrail',
    host: '0.0.0.0',
    port: 6222,
    routes,
    routeUser: keys.route,
  }
  const tls = { certFile: '/etc/nats-tls.pem', keyFile: '/etc/nats-tls.key' }
  const at = { host: '0.0.0.0', port: 4222, storeDir: '/data', tls, cluster }
  write(`${name}.conf`, renderNatsConfig({ ...at, ...accounts }))
}

const databaseUrl = new URL(withLogin(adminUrl, keys.service))
// A path of this host: in the containers SANDTRAIL_CA_FILE takes its place.
databaseUrl.searchParams.delete('sslrootcert')
write(
  'env',
  `SANDTRAIL_DIR=${dir}\nSANDTRAIL_DATABASE_URL=${databaseUrl.href}\nSANDTRAIL_WORKER_ID=${keys.workers[0]?.id}\n`,
)
console.log(`prepared ${dir}: docker-compose --env-file ${join(dir, 'env')} up -d`)
