/**
 * An installation of this host: keys, schema and logins of the database, the broker's configuration, one environment
 * file per service, systemd units. Makes what is missing and brings the rest up to date, so an upgrade runs it again;
 * what stands in an environment file is never changed.
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { ensureCertificates, installPair } from '../system/certificates.mjs'
import { prepareSchema, withLogin } from '../system/database.mjs'
import { ensureKeys } from '../system/keys.mjs'
import { servicesOf } from '../system/services.mjs'
import { natsAccounts, readTenants } from '../system/tenants.mjs'
import { CLONE, isRoot, tools, userFor } from '../system/tools.mjs'
import { addToEnvFile } from './env-file.mjs'
import { writeUnits } from './units.mjs'

/** Keys that no other user than root may read: what the worker alone uses, and the authority's. */
const WORKERS = /^(worker-|ca\.key$)/

/**
 * @param {import('./layout.mjs').Layout} layout @param {string} adminUrl
 * @param {Record<string, string | undefined>} options
 */
export async function install(layout, adminUrl, options) {
  if (!isRoot) throw new Error('this makes users, directories and units: run it as root')
  refuseHiddenPaths()
  const { etc, state } = layout
  const user = options.user ?? 'sandtrail'
  ensureUser(user)
  const { uid = 0, gid = 0 } = userFor(user)
  makeDirs(layout, { uid, gid })

  // Renewed by each run, once they are there.
  const { certificates: known } = await ensureKeys(etc, 1)
  if (known !== null || options.tls !== undefined) {
    await ensureCertificates(layout.key, (options.tls ?? '').split(',').filter(Boolean))
  }
  const keys = await ensureKeys(etc, 1)
  await prepareSchema(adminUrl, keys)

  const natsPort = Number(options['nats-port'] ?? 4222)
  const { renderNatsConfig } = await import('#libs/messaging')
  const accounts = natsAccounts(keys, await readTenants(adminUrl))
  const at = {
    host: '127.0.0.1',
    port: natsPort,
    storeDir: layout.natsStore,
    ...brokerTls(layout, keys, { uid, gid }),
  }
  const natsConfig = join(etc, 'nats.conf')
  writeFileSync(natsConfig, renderNatsConfig({ ...at, ...accounts }), { mode: 0o600 })
  chownSync(natsConfig, uid, gid)
  for (const name of readdirSync(join(etc, 'keys')).filter((each) => !WORKERS.test(each))) {
    chownSync(layout.key(name), uid, gid)
  }

  const databaseUrl = withLogin(adminUrl, keys.service)
  for (const { app, env } of servicesHere({ layout, natsPort, databaseUrl, keys, options })) {
    addToEnvFile(layout.envFile(app === 'runtime-worker' ? 'worker' : app), env)
  }
  for (const path of [join(state, 'trail'), join(state, 'blobs')]) chownSync(path, uid, gid)

  const units = options.units ?? '/etc/systemd/system'
  const { SANDTRAIL_NATS_SERVER: natsServer = '/usr/local/bin/nats-server' } = tools()
  writeUnits(units, { etc, state, user, node: process.execPath, natsServer })
  console.log(`installed: ${etc}, ${state}, units in ${units}
next: systemctl daemon-reload && systemctl enable --now sandtrail.target && sandtrail-admin bootstrap`)
}

/** What the services of one host are given, the same as on a system of `make up`, with this layout's places. */
function servicesHere(
  /** @type {{ layout: import('./layout.mjs').Layout, natsPort: number, databaseUrl: string,
   *   keys: Awaited<ReturnType<typeof ensureKeys>>, options: Record<string, string | undefined> }} */
  { layout, natsPort, databaseUrl, keys, options },
) {
  const services = servicesOf({
    dir: layout.state,
    natsUrl: `${keys.certificates ? 'tls' : 'nats'}://127.0.0.1:${natsPort}`,
    databaseUrl,
    httpPort: Number(options['http-port'] ?? 8480),
    modalPort: Number(options['modal-port'] ?? 8481),
    keys,
    pools: [join(layout.state, 'pools', '1')],
    schedulers: 1,
  }).flat()
  return services.map(({ app, env }) => {
    // systemd watches the process itself; the default ports of metrics are free on a host of its own.
    const { SANDTRAIL_READY_FILE: _, SANDTRAIL_METRICS_PORT: __, ...rest } = env
    if (app !== 'runtime-worker') return { app, env: rest }
    const own = {
      SANDTRAIL_INSTANCE: randomBytes(4).toString('hex'),
      SANDTRAIL_WORKER_STATE_DIR: join(layout.state, 'worker'),
    }
    return { app, env: { ...rest, ...own } }
  })
}

/** Where the broker, which sees no keys, finds its certificate.
 * @param {import('./layout.mjs').Layout} layout @param {Awaited<ReturnType<typeof ensureKeys>>} keys
 * @param {{ uid: number, gid: number }} owner */
function brokerTls({ etc }, { certificates }, owner) {
  if (certificates === null) return {}
  const home = join(etc, 'nats-tls')
  mkdirSync(home, { recursive: true, mode: 0o700 })
  chownSync(home, owner.uid, owner.gid)
  const { cert, key } = installPair(certificates.nats, home, owner)
  return { tls: { certFile: cert, keyFile: key } }
}

/** The units hide home directories from the services. */
function refuseHiddenPaths() {
  const hidden = [CLONE, process.execPath].find((path) => /^\/(root|home|run\/user)\//.test(path))
  if (hidden === undefined) return
  throw new Error(
    `${hidden} is in a home directory, which the services cannot see: install Node and the package for all users (npm install -g --prefix /usr/local)`,
  )
}

/** @param {string} user */
function ensureUser(user) {
  try {
    userFor(user)
  } catch {
    execFileSync('useradd', ['--system', '--no-create-home', '--shell', '/usr/sbin/nologin', user])
  }
}

/** @param {import('./layout.mjs').Layout} layout @param {{ uid: number, gid: number }} owner */
function makeDirs({ etc, state, natsStore }, { uid, gid }) {
  for (const path of [etc, state]) {
    if (!existsSync(path)) mkdirSync(path, { recursive: true })
    // Others pass through to what is theirs, but list nothing.
    chmodSync(path, 0o711)
  }
  mkdirSync(join(etc, 'keys'), { recursive: true })
  chmodSync(join(etc, 'keys'), 0o711)
  for (const path of [dirname(natsStore), natsStore]) {
    mkdirSync(path, { recursive: true, mode: 0o700 })
    chownSync(path, uid, gid)
  }
  mkdirSync(join(state, 'worker'), { recursive: true, mode: 0o700 })
}
