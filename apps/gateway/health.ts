/** Whether each part of the system answers, and what to do about one that does not. */

import { Rejected } from '#libs/domain'
import { listWorkers } from '#libs/event-store'
import { subjects } from '#libs/messaging'
import type { Gateway } from './gateway.js'
import { readImage } from './images.js'
import { installationChecks } from './installation-checks.js'

export interface Check {
  name: string
  ok: boolean
  detail: string
  /** What to do; null when all is well. */
  hint: string | null
}

export interface Health {
  ok: boolean
  checks: Check[]
}

/** A probe must answer before its caller gives up. */
const PROBE_MS = 2_000
/** A worker that is not reached is given up after 10 s by the data plane; the others answer at once. */
const INSTALLATION_MS = 12_000

export async function isReady({ db, messaging }: Gateway): Promise<boolean> {
  const [database, broker] = await Promise.allSettled([
    within(PROBE_MS, db.query('select 1')),
    within(PROBE_MS, messaging.connection.flush()),
  ])
  return database.status === 'fulfilled' && broker.status === 'fulfilled'
}

/** Never throws: what cannot be asked is what is reported. The installation's own matters are for operators. */
export async function checkHealth(
  gateway: Gateway,
  { tenant, operator }: { tenant: string; operator: boolean },
): Promise<Health> {
  const { db, messaging } = gateway
  const checks = await Promise.all([
    check('database', 'see whether Postgres runs and the gateway may log in', async () => {
      await within(PROBE_MS, db.query('select 1'))
      return 'answers'
    }),
    check('broker', 'see whether nats-server runs: `make up` starts what is missing', async () => {
      await within(PROBE_MS, messaging.connection.flush())
      return 'answers'
    }),
    ...(['scheduler', 'snapshotter', 'volume-syncer'] as const).map((service) =>
      check(service, `start the ${service}; its log file is named in .sandtrail/services.json`, () =>
        askService(gateway, tenant, service),
      ),
    ),
    check('workers', 'start a runtime-worker, and see its log for why it does not register', () =>
      countWorkers(gateway),
    ),
    check(
      'base image',
      'import it: `make up` does, else `sandtrail image import FILE --name base:latest --shared`',
      async () => {
        const image = await readImage(db, tenant, 'base:latest')
        if (image.state !== 'ready') throw new Rejected('IMAGE_NOT_READY', `base:latest is ${image.state}`)
        return `${image.imageId} in ${image.replicas.length} pool(s)`
      },
    ),
  ])
  if (operator) checks.push(...(await checkInstallation(gateway)))
  return { ok: checks.every(({ ok }) => ok), checks }
}

async function checkInstallation(gateway: Gateway): Promise<Check[]> {
  const checks = await installationChecks(gateway)
  return Promise.all(
    checks.map(({ name, hint, probe }) => check(name, hint, () => within(INSTALLATION_MS, probe()))),
  )
}

async function check(name: string, hint: string, probe: () => Promise<string>): Promise<Check> {
  try {
    return { name, ok: true, detail: await probe(), hint: null }
  } catch (error) {
    return { name, ok: false, detail: error instanceof Error ? error.message : 'does not answer', hint }
  }
}

/** A command without a body is refused by whoever decides on it, before anything is stored: that it answers is enough. */
const HARMLESS = {
  scheduler: ['sandbox', 'terminate'],
  snapshotter: ['image', 'remove'],
  'volume-syncer': ['volume', 'remove'],
} as const

async function askService(
  { messaging }: Gateway,
  tenant: string,
  service: keyof typeof HARMLESS,
): Promise<string> {
  const [aggregate, verb] = HARMLESS[service]
  try {
    await messaging.request(subjects.request(tenant, aggregate, verb), {}, { timeoutMs: PROBE_MS })
  } catch (error) {
    if (!(error instanceof Rejected && error.code === 'INVALID_ARGUMENT')) throw error
  }
  return 'answers'
}

async function countWorkers({ db }: Gateway): Promise<string> {
  const workers = await listWorkers(db)
  const active = workers.filter(({ state }) => state === 'active').length
  if (active === 0) throw new Error(`none of ${workers.length} known workers is active`)
  return `${active} of ${workers.length} active`
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new Error('no answer in time')), ms)
  try {
    return await Promise.race([work, promise])
  } finally {
    clearTimeout(timer)
  }
}
