/**
 * A whole system on this host: Postgres, nats-server, pools and every service as its own process.
 *
 *   lasting (`make up`)     its state stays between down and up; started again, only what is missing is started
 *   private (tests, demo)   belongs to the process that started it, and is gone with it
 */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ensureCertificates, findCertificates } from './certificates.mjs'
import { openDatabase } from './database.mjs'
import { cli, firstToken, importBaseImage, modalToken } from './first-use.mjs'
import { ensureKeys, rotateLogin } from './keys.mjs'
import { removeLeftovers } from './leftovers.mjs'
import { startNats } from './nats.mjs'
import { mountPool } from './pool.mjs'
import { portFor, readPorts } from './ports.mjs'
import { findProcess, isAlive, listProcesses, signal, stopProcess } from './processes.mjs'
import { servicesOf, startService } from './services.mjs'
import { createPrivateDir, systemId } from './state.mjs'
import { destroy, sweep } from './sweep.mjs'
import { natsAccounts, readTenants, rememberedTenants, rememberTenants } from './tenants.mjs'
import { HOME, isRoot } from './tools.mjs'
import { until } from './until.mjs'

/**
 * @typedef {object} SystemOptions
 * @property {string} [dir] state directory; without it the system is private and `stop` removes all that it has
 * @property {number} [schedulers] 1
 * @property {number} [workers] 1, each with a pool of its own
 * @property {number} [gateways] 1; `gateway`, `gateway-2`, ...
 * @property {string} [logs] directory of the logs; `logs` in the state directory
 * @property {Record<string, string>} [environment] further keys for the services, such as SANDTRAIL_LEASE_GRACE_MS
 * @property {string} [postgresUrl] of a superuser of a Postgres that is this system's alone, instead of one that it starts
 * @property {boolean} [tls] HTTP, NATS and Postgres by TLS alone, with certificates of the system's own (false). A
 *   lasting system keeps it
 * @property {boolean} [baseImage] import the base image as `base:latest` (true)
 * @property {(line: string) => void} [say] told what is being done
 *
 * @typedef {object} System
 * @property {string} dir
 * @property {string} id six hexadecimal digits, part of the name of everything that it makes on the host
 * @property {Record<string, string>} env what `.sandtrail/env` holds: for users of the system
 * @property {string[]} gatewayUrls of each gateway
 * @property {() => { name: string, pid: number, log: string, metrics: string | null }[]} services every live process,
 *   servers included; `metrics`: where a service serves its metrics and probes
 * @property {(name: string, options?: { failpoint?: string }) => Promise<void>} start starts a service, `postgres` or
 *   `nats` unless it runs; `failpoint`: where it is to break, see libs/failpoint
 * @property {(name: string, signal?: NodeJS.Signals) => Promise<void>} kill sends a signal (SIGKILL); after one that
 *   ends a process, resolves when it is gone
 * @property {(name: string) => Promise<void>} restart stops it as `down` does, and starts it
 * @property {(rotate?: string) => Promise<Record<string, { user: string, password: string }>>} syncTenants brings the
 *   broker's accounts to the table of tenants; each tenant's login
 * @property {() => Promise<void>} stop
 */

/** @param {SystemOptions} [options] @returns {Promise<System>} */
export async function startSystem(options = {}) {
  if (!isRoot) throw new Error('Sandtrail makes mounts, namespaces and cgroups: run this as root')
  await sweep()
  const isPrivate = options.dir === undefined
  const dir = options.dir ?? createPrivateDir()
  try {
    return await start(dir, isPrivate, options)
  } catch (error) {
    if (isPrivate) await destroy(dir).catch(() => {})
    throw error
  }
}

/** @param {string} dir @param {boolean} isPrivate @param {SystemOptions} options @returns {Promise<System>} */
async function start(dir, isPrivate, options) {
  const {
    schedulers = 1,
    workers = 1,
    gateways = 1,
    logs = join(dir, 'logs'),
    environment,
    postgresUrl,
    baseImage = true,
  } = options
  const say = options.say ?? (() => {})
  mkdirSync(logs, { recursive: true })
  const keys = await withTls(dir, await ensureKeys(dir, workers), options.tls ?? false)
  const { certificates, service, auditor } = keys

  const database = () =>
    openDatabase(dir, {
      log: join(logs, 'postgres.log'),
      service,
      auditor,
      certificates,
      serverUrl: postgresUrl,
    })
  const natsLog = join(logs, 'nats.log')
  const nats = () => openNats(dir, keys, natsLog)
  say('Postgres, nats-server and the pools')
  const [{ adminUrl, serviceUrl, auditorUrl, ownServer }, natsUrl, pools] = await Promise.all([
    database(),
    nats(),
    Promise.all(keys.workers.map((_, index) => mountPool(dir, `${index + 1}`))),
  ])

  const tenants = (/** @type {string | undefined} */ rotate = undefined) =>
    syncTenants(dir, keys, { databaseUrl: serviceUrl, log: natsLog, ...(rotate ? { rotate } : {}) })
  await tenants()

  const httpPort = await portFor(dir, 'gateway')
  const modalPort = await portFor(dir, 'gateway-modal')
  const moreHttpPorts = await inTurn(gateways - 1, (index) => portFor(dir, `gateway-${index + 2}`))
  const names = [
    ...[
      'gateway',
      'snapshotter',
      'volume-syncer',
      ...moreHttpPorts.map((_, index) => `gateway-${index + 2}`),
    ],
    ...Array.from({ length: schedulers }, (_, index) => `scheduler-${index + 1}`),
    ...Array.from({ length: workers }, (_, index) => `worker-${index + 1}`),
  ]
  const metricsPorts = await inTurn(names.length, (index) => portFor(dir, metricsOf(names[index] ?? '')))
  const stages = servicesOf({
    dir,
    natsUrl,
    databaseUrl: serviceUrl,
    httpPort,
    modalPort,
    moreHttpPorts,
    metricsPort: (name) => metricsPorts[names.indexOf(name)] ?? 0,
    keys,
    pools,
    schedulers,
    environment: { ...ofOwnServers(), ...environment },
  })
  for (const stage of stages) {
    say(stage.map(({ name }) => name).join(', '))
    await Promise.all(stage.map((service) => startService(dir, service, logs)))
  }

  const token = await firstToken(keys.path('token'), serviceUrl)
  const env = {
    SANDTRAIL_URL: `${scheme(certificates)}://127.0.0.1:${httpPort}`,
    SANDTRAIL_TOKEN: token,
    MODAL_SERVER_URL: `${scheme(certificates)}://localhost:${modalPort}`,
    ...modalToken(token),
    ...(certificates ? { SANDTRAIL_CA_FILE: certificates.ca, NATS_CA: certificates.ca } : {}),
    NATS_URL: natsUrl,
    NATS_USER: keys.tenant.user,
    NATS_PASSWORD: keys.tenant.password,
    NATS_OPERATOR_USER: keys.operator.user,
    NATS_OPERATOR_PASSWORD: keys.operator.password,
    DATABASE_URL: auditorUrl,
    ...(ownServer ? { DATABASE_ADMIN_URL: adminUrl } : {}),
    SANDTRAIL_TRAIL_FILE: join(dir, 'trail', 'trail.jsonl'),
    SANDTRAIL_TRAIL_PUBLIC_KEY: keys.path('trail.vkey'),
  }
  if (baseImage) {
    say('the base image')
    await importBaseImage(env)
  }

  const startByName = async (
    /** @type {string} */ name,
    /** @type {{ failpoint?: string }} */ { failpoint } = {},
  ) => {
    if (name === 'postgres') return void (await database())
    if (name === 'nats') return void (await nats())
    const service = stages.flat().find((each) => each.name === name)
    if (service === undefined) throw new Error(`no service ${name} in this system`)
    await startService(dir, service, logs, failpoint)
  }
  return {
    dir,
    id: systemId(dir),
    env,
    gatewayUrls: [httpPort, ...moreHttpPorts].map((port) => `${scheme(certificates)}://127.0.0.1:${port}`),
    services: () => describeProcesses(dir),
    start: startByName,
    kill: (name, signalName = 'SIGKILL') => killByName(dir, name, signalName),
    async restart(name) {
      await stopProcess(dir, name)
      await startByName(name)
    },
    syncTenants: async (rotate) =>
      Object.fromEntries(
        Object.entries(await tenants(rotate)).map(([name, file]) => [
          name,
          JSON.parse(readFileSync(file, 'utf8')),
        ]),
      ),
    stop: () => (isPrivate ? destroy(dir) : stopSystem(dir)),
  }
}

/**
 * Certificates are made when TLS is asked for, and renewed whenever a system that has it comes up.
 * @param {string} dir @param {Awaited<ReturnType<typeof ensureKeys>>} keys @param {boolean} tls
 */
async function withTls(dir, keys, tls) {
  if (!tls && keys.certificates === null) return keys
  if (keys.certificates === null && listProcesses(dir).some(isAlive)) {
    throw new Error('it runs without TLS: take it down first')
  }
  return { ...keys, certificates: await ensureCertificates(keys.path) }
}

const scheme = (/** @type {object | null} */ certificates) => (certificates ? 'https' : 'http')

/** How the services reach servers that are not ours (SANDTRAIL_PG_URL, SANDTRAIL_NATS_URL). */
function ofOwnServers() {
  const { SANDTRAIL_PG_URL, SANDTRAIL_NATS_URL, SANDTRAIL_CA_FILE, SANDTRAIL_PLAINTEXT_ALLOWED } = process.env
  if (SANDTRAIL_PG_URL === undefined && SANDTRAIL_NATS_URL === undefined) return {}
  return {
    ...(SANDTRAIL_CA_FILE ? { SANDTRAIL_CA_FILE } : {}),
    ...(SANDTRAIL_PLAINTEXT_ALLOWED ? { SANDTRAIL_PLAINTEXT_ALLOWED } : {}),
  }
}

/** @param {string} dir */
export function describeProcesses(dir) {
  const alive = listProcesses(dir).filter(isAlive)
  const ports = readPorts(dir)
  return alive.map(({ name, pid, log }) => {
    const port = ports[metricsOf(name)]
    return { name, pid, log, metrics: port === undefined ? null : `http://127.0.0.1:${port}` }
  })
}

/** The name of the port of a service's metrics. @param {string} service */
const metricsOf = (service) => `${service}-metrics`

/** One after the other: ports are chosen with those in view that were chosen before.
 * @param {number} count @param {(index: number) => Promise<number>} choose */
async function inTurn(count, choose) {
  const chosen = []
  for (let index = 0; index < count; index++) chosen.push(await choose(index))
  return chosen
}

/**
 * The broker that SANDTRAIL_NATS_URL names must have been given what `main.mjs nats-config` prints.
 * @param {string} dir @param {Awaited<ReturnType<typeof ensureKeys>>} keys @param {string} log
 */
async function openNats(dir, keys, log) {
  const { renderNatsConfig } = await import('#libs/messaging')
  return (
    process.env.SANDTRAIL_NATS_URL ??
    startNats(dir, {
      log,
      certificate: keys.certificates?.nats,
      renderConfig: (at) => renderNatsConfig({ ...at, ...natsAccounts(keys, rememberedTenants(dir)) }),
    })
  )
}

/**
 * Brings the broker's accounts to what the table of tenants says, logins and limits included. `rotate`: a tenant that
 * gets a new password.
 *
 * @param {string} dir @param {Awaited<ReturnType<typeof ensureKeys>>} keys
 * @param {{ databaseUrl: string, log: string, rotate?: string }} options
 * @returns {Promise<Record<string, string>>} the file of each tenant's login
 */
export async function syncTenants(dir, keys, { databaseUrl, log, rotate }) {
  const tenants = await readTenants(databaseUrl)
  if (rotate !== undefined) {
    if (!tenants.some(({ name }) => name === rotate)) throw new Error(`there is no tenant ${rotate}`)
    keys.tenantLogin(rotate)
    rotateLogin(keys.path(`tenant-${rotate}.json`))
  }
  rememberTenants(dir, tenants)
  await openNats(dir, keys, log)
  return Object.fromEntries(tenants.map(({ name }) => [name, keys.path(`tenant-${name}.json`)]))
}

/**
 * Sandboxes outlive their worker by design, so a system that goes down ends them first: their history then says so.
 * @param {string} dir
 */
async function terminateSandboxes(dir) {
  const { gateway } = readPorts(dir)
  const token = join(dir, 'keys', 'token')
  if (gateway === undefined || !existsSync(token) || !isAlive(findProcess(dir, 'gateway'))) return
  const certificates = findCertificates((name) => join(dir, 'keys', name))
  const env = {
    SANDTRAIL_URL: `${scheme(certificates)}://127.0.0.1:${gateway}`,
    SANDTRAIL_TOKEN: readFileSync(token, 'utf8'),
    ...(certificates ? { SANDTRAIL_CA_FILE: certificates.ca } : {}),
  }
  try {
    const ids = (await cli(env, 'ps', '--quiet')).trim().split('\n').filter(Boolean)
    if (ids.length === 0) return
    await cli(env, 'rm', ...ids)
    // An end has many steps; what has not come that far is ended on the host below, and told by the next start.
    await until(async () => (await cli(env, 'ps', '--quiet')).trim() === '', 20_000)
  } catch {
    // The system is half dead: the same goes for all of its sandboxes.
  }
}

/** @param {string} dir @param {string} name @param {NodeJS.Signals} signalName */
async function killByName(dir, name, signalName) {
  const record = findProcess(dir, name)
  if (record === null) throw new Error(`no process ${name} in this system`)
  signal(record, signalName)
  if (signalName === 'SIGSTOP' || signalName === 'SIGCONT' || signalName === 'SIGHUP') return
  if (!(await until(() => !isAlive(record), 30_000))) throw new Error(`${name} outlived ${signalName}`)
}

// The front door first, what everybody needs last.
const ORDER = [/^gateway/, /^worker/, /^snapshotter/, /^volume-syncer/, /^scheduler/, /^nats/, /^postgres/]

/** Ends a lasting system: every process, then all that it has on the host; its state stays. @param {string} dir */
export async function stopSystem(dir) {
  await terminateSandboxes(dir)
  const names = listProcesses(dir).map(({ name }) => name)
  for (const pattern of ORDER) {
    await Promise.all(names.filter((name) => pattern.test(name)).map((name) => stopProcess(dir, name)))
  }
  await removeLeftovers(dir)
}

/**
 * Files for a shell and for people: `.sandtrail/env` (mode 0600: it holds passwords) and `.sandtrail/services.json`.
 * @param {System} system
 */
export function writeUserFiles({ env, services }) {
  mkdirSync(HOME, { recursive: true })
  const lines = Object.entries(env).map(([key, value]) => `export ${key}='${value}'\n`)
  replaceFile(join(HOME, 'env'), lines.join(''), 0o600)
  replaceFile(join(HOME, 'services.json'), `${JSON.stringify(services(), null, 2)}\n`, 0o644)
}

/** @param {string} path @param {string} content @param {number} mode */
function replaceFile(path, content, mode) {
  writeFileSync(`${path}.new`, content, { mode })
  renameSync(`${path}.new`, path)
}
