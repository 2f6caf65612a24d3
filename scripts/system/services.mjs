/**
 * The services of a system: each one process, `node dist/apps/<app>/main.js`, configured by its environment
 * (docs/services-env.md). docker-compose.yml starts the same commands.
 */
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { findProcess, isAlive, launch } from './processes.mjs'
import { systemId } from './state.mjs'
import { CLONE, tools } from './tools.mjs'
import { until } from './until.mjs'

/** @typedef {{ name: string, app: string, env: Record<string, string> }} Service */

/**
 * The services in the order of their start: each stage begins when the one before is ready.
 *
 * @param {{ dir: string, natsUrl: string, databaseUrl: string, httpPort: number, modalPort: number,
 *   moreHttpPorts?: number[], metricsPort?: (service: string) => number,
 *   keys: Pick<Awaited<ReturnType<typeof import('./keys.mjs').ensureKeys>>, 'path' | 'workers' | 'certificates'>,
 *   pools: string[], schedulers: number,
 *   environment?: Record<string, string> }} system `environment`: further keys for the services that know them;
 *   `moreHttpPorts`: of further gateways
 * @returns {Service[][]}
 */
export function servicesOf({
  dir,
  natsUrl,
  databaseUrl,
  httpPort,
  modalPort,
  moreHttpPorts = [],
  metricsPort = () => 0,
  keys,
  pools,
  schedulers,
  environment = {},
}) {
  const blobs = join(dir, 'blobs')
  const trail = join(dir, 'trail')
  for (const path of [blobs, trail]) mkdirSync(path, { recursive: true, mode: 0o700 })
  const { certificates } = keys
  const publicUrl = `${certificates ? 'https' : 'http'}://127.0.0.1:${httpPort}`
  const authority = certificates ? { SANDTRAIL_CA_FILE: certificates.ca } : {}
  const platform = {
    SANDTRAIL_NATS_URL: natsUrl,
    SANDTRAIL_NATS_CREDENTIALS_FILE: keys.path('platform.json'),
    SANDTRAIL_DATABASE_URL: databaseUrl,
    ...authority,
  }

  const scheduler = {
    ...platform,
    SANDTRAIL_MASTER_KEY_FILE: keys.path('master.key'),
    SANDTRAIL_TRAIL_FILE: join(trail, 'trail.jsonl'),
    SANDTRAIL_TRAIL_KEY_FILE: keys.path('trail.key'),
  }
  const snapshotter = {
    ...platform,
    SANDTRAIL_PUBLIC_URL: publicUrl,
    SANDTRAIL_BLOB_KEY_FILE: keys.path('blob.key'),
  }
  const gateway = {
    ...platform,
    SANDTRAIL_HTTP_HOST: '127.0.0.1',
    SANDTRAIL_HTTP_PORT: String(httpPort),
    SANDTRAIL_MODAL_PORT: String(modalPort),
    ...(certificates
      ? {
          SANDTRAIL_HTTP_TLS_CERT_FILE: certificates.gateway.cert,
          SANDTRAIL_HTTP_TLS_KEY_FILE: certificates.gateway.key,
        }
      : {}),
    SANDTRAIL_PUBLIC_URL: publicUrl,
    SANDTRAIL_DATA_PLANE_KEY_FILE: keys.path('data-plane.key'),
    SANDTRAIL_MASTER_KEY_FILE: keys.path('master.key'),
    SANDTRAIL_BLOB_DIR: blobs,
    SANDTRAIL_BLOB_KEY_FILE: keys.path('blob.key'),
    SANDTRAIL_TRAIL_PUBLIC_KEY_FILE: keys.path('trail.vkey'),
    SANDTRAIL_TRAIL_COPY: join(trail, 'trail.jsonl'),
  }
  const workers = keys.workers.map((identity, index) => ({
    SANDTRAIL_NATS_URL: natsUrl,
    SANDTRAIL_NATS_CREDENTIALS_FILE: identity.credentialsFile,
    ...authority,
    SANDTRAIL_WORKER_ID: identity.id,
    SANDTRAIL_INSTANCE: `${systemId(dir)}${String(index + 1).padStart(2, '0')}`,
    SANDTRAIL_WORKER_STATE_DIR: join(dir, 'workers', String(index + 1)),
    SANDTRAIL_POOL_DIR: pools[index] ?? '',
    SANDTRAIL_RUNSC: tools().SANDTRAIL_RUNSC ?? '',
    SANDTRAIL_RUNSC_PLATFORM: tools().SANDTRAIL_RUNSC_PLATFORM ?? '',
    SANDTRAIL_AGENT: tools().SANDTRAIL_AGENT ?? '',
    SANDTRAIL_DATA_PLANE_HOST: '127.0.0.1',
    SANDTRAIL_DATA_PLANE_PUBLIC_KEY_FILE: keys.path('data-plane.pub'),
  }))

  const several = (
    /** @type {string} */ app,
    /** @type {string} */ prefix,
    /** @type {Record<string, string>[]} */ envs,
  ) => envs.map((env, index) => service(`${prefix}-${index + 1}`, app, env))
  const service = (
    /** @type {string} */ name,
    /** @type {string} */ app,
    /** @type {Record<string, string>} */ env,
  ) => ({
    name,
    app,
    env: {
      ...env,
      ...known(environment, app),
      SANDTRAIL_METRICS_PORT: String(metricsPort(name)),
      SANDTRAIL_READY_FILE: readyFile(dir, name),
    },
  })
  return [
    several('scheduler', 'scheduler', Array(schedulers).fill(scheduler)),
    [
      service('snapshotter', 'snapshotter', snapshotter),
      service('volume-syncer', 'volume-syncer', platform),
      service('gateway', 'gateway', gateway),
      ...moreHttpPorts.map((port, index) =>
        service(`gateway-${index + 2}`, 'gateway', {
          ...gateway,
          SANDTRAIL_HTTP_PORT: String(port),
          SANDTRAIL_MODAL_PORT: '0',
        }),
      ),
    ],
    several('runtime-worker', 'worker', workers),
  ]
}

// A service refuses a key that it does not know, so a setting for one must not reach the others.
const SETTINGS = {
  scheduler: ['SANDTRAIL_CPU_FACTOR', 'SANDTRAIL_LEASE_GRACE_MS'],
  'runtime-worker': [
    'SANDTRAIL_MEMORY_BYTES',
    'SANDTRAIL_CPU_MILLIS',
    'SANDTRAIL_SPOOL_BYTES_MAX',
    'SANDTRAIL_SPOOL_KEEP_HOURS',
    'SANDTRAIL_SPOOL_SANDBOX_BYTES_MAX',
    'SANDTRAIL_STATE_RESERVE_BYTES',
    'SANDTRAIL_DNS_UPSTREAM',
    'SANDTRAIL_UPLINK_NETNS',
    'SANDTRAIL_REFUSED_NETWORKS',
    'SANDTRAIL_RUNTIME',
  ],
}

/** @param {Record<string, string>} environment @param {string} app */
function known(environment, app) {
  const keys = [
    'SANDTRAIL_LOG_LEVEL',
    'SANDTRAIL_CA_FILE',
    'SANDTRAIL_PLAINTEXT_ALLOWED',
    'OTEL_EXPORTER_OTLP_ENDPOINT',
    ...(SETTINGS[/** @type {keyof typeof SETTINGS} */ (app)] ?? []),
  ]
  return Object.fromEntries(Object.entries(environment).filter(([key]) => keys.includes(key)))
}

/** What starts an app: `node` and these arguments, in the root of the clone. @param {string} app */
export const commandOf = (app) => [`dist/apps/${app}/main.js`]

/** One that hangs or is stopped before it is ready is not waited for. */
const ARMED_START_MS = 10_000

const readyFile = (/** @type {string} */ dir, /** @type {string} */ name) => join(dir, 'run', `${name}.ready`)

/**
 * Starts a service unless it runs, and waits until it says that it is ready. With a failpoint (libs/failpoint) it may
 * break before that, which is no failure then: this resolves all the same.
 * @param {string} dir @param {Service} service @param {string} logs directory @param {string} [failpoint]
 */
export async function startService(dir, { name, app, env }, logs, failpoint) {
  const ready = readyFile(dir, name)
  const log = join(logs, `${name}.log`)
  let record = findProcess(dir, name)
  if (record === null || !isAlive(record)) {
    mkdirSync(join(dir, 'run'), { recursive: true, mode: 0o700 })
    rmSync(ready, { force: true })
    const args = failpoint === undefined ? commandOf(app) : ['--conditions=failpoints', ...commandOf(app)]
    const armed = failpoint === undefined ? env : { ...env, SANDTRAIL_FAILPOINT: failpoint }
    record = launch(dir, { name, command: process.execPath, args, env: armed, cwd: CLONE, log })
  }
  const process_ = record
  await until(
    () => existsSync(ready) || !isAlive(process_),
    failpoint === undefined ? 60_000 : ARMED_START_MS,
  )
  if (failpoint !== undefined) return
  if (!existsSync(ready) || !isAlive(process_)) {
    throw new Error(
      `${name} did not get ready; the end of ${log}:\n${readFileSync(log, 'utf8').slice(-2_000)}`,
    )
  }
}
