/** The product's processes in the simulated world: put together as their own main programs do, without the transports. */

import { createHash } from 'node:crypto'
import { type Heartbeat, type HeartbeatReply, parseOrder, type ReportReply } from '#libs/contract'
import { isId, type WorkerId } from '#libs/domain'
import { Sealer, Sequencer, TimerLoop } from '#libs/event-store'
import { controlSubject } from '#libs/messaging'
import type { Log } from '#libs/service'
import { TenantGate } from '#libs/tenancy'
import { HeartbeatLoop } from '../../apps/runtime-worker/heartbeat.js'
import { Janitor } from '../../apps/runtime-worker/janitor.js'
import { takeOrder } from '../../apps/runtime-worker/orders/take-order.js'
import { Outbox } from '../../apps/runtime-worker/outbox/outbox.js'
import { Sandboxes } from '../../apps/runtime-worker/sandboxes/registry.js'
import { Spool } from '../../apps/runtime-worker/spool/spool.js'
import type { Scheduler } from '../../apps/scheduler/context.js'
import { ExecWaiters } from '../../apps/scheduler/exec-waiters.js'
import { Heartbeats } from '../../apps/scheduler/heartbeat.js'
import { Leases } from '../../apps/scheduler/leases.js'
import { orphanedExecs } from '../../apps/scheduler/orphaned-execs.js'
import { SandboxController } from '../../apps/scheduler/sandbox.controller.js'
import { timerHandlers } from '../../apps/scheduler/timer-handlers.js'
import { WorkerController } from '../../apps/scheduler/worker.controller.js'
import type { Broker } from './broker.js'
import type { Machine } from './guest.js'
import type { Judge } from './judge.js'
import type { Postgres } from './postgres/server.js'
import { type RuntimeWeather, SimRuntime } from './runtime.js'
import type { SimProcess, World } from './world.js'

/** Shorter than in production, so that a run has time for more than one. */
export const LEASE_GRACE_MS = 10_000
const REPORT_MS_MAX = 15_000
const GIB = 1024 ** 3
const SPOOL_LIMITS = { streamBytesMax: GIB, sandboxBytesMax: 2 * GIB, keepMs: 3_600_000, reserveBytes: 0 }
const MASTER_KEY = Buffer.alloc(32, 7)

export interface Surroundings {
  world: World
  postgres: Postgres
  broker: Broker
  judge: Judge
  runtimeWeather: RuntimeWeather
}

export function logOf(world: World, process: SimProcess, common: object = {}): Log {
  const at =
    (level: string) =>
    (fields: object | string, text = '') => {
      const [given, message] = typeof fields === 'string' ? [{}, fields] : [fields, text]
      const { err, ...own } = given as { err?: unknown }
      const rest = { ...common, ...own }
      // A bug of the product, or something that the simulated world lacks: caught and logged, it would go unseen.
      if (isBug(err)) world.violate(`${process.name}: ${message}: ${(err as Error).stack}`)
      world.trace.add(
        'log',
        process.name,
        level,
        message,
        JSON.stringify(rest),
        err instanceof Error ? err.message : '',
      )
    }
  const log = {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    fatal: at('fatal'),
  }
  return { ...log, child: (more: object) => logOf(world, process, { ...common, ...more }) } as unknown as Log
}

function isBug(error: unknown): boolean {
  if (error instanceof TypeError || error instanceof ReferenceError) return true
  return error instanceof Error && error.message.startsWith('the simulation has no')
}

/** As apps/scheduler/start.ts. */
export function startScheduler({ world, postgres, broker }: Surroundings, process: SimProcess): void {
  const log = logOf(world, process)
  const db = postgres.pool(process)
  const messaging = broker.connect(process)
  const scheduler: Scheduler = {
    db,
    messaging,
    sealer: new Sealer(db, MASTER_KEY),
    hashKey: createHash('sha256').update(MASTER_KEY).digest(),
    gate: new TenantGate(db, 'scheduler', log),
    onCommitted: () => messaging.nudge(),
    waiters: new ExecWaiters(db),
    log,
  }
  const onError = (err: unknown) => log.warn({ err }, 'a loop of the scheduler failed, it goes on')
  const leases = new Leases(scheduler, LEASE_GRACE_MS)
  const timers = new TimerLoop(db, timerHandlers(scheduler, leases), onError)
  const orphans = orphanedExecs(scheduler)
  process.host.disk.makeDirectories('/trail')
  const sequencer = new Sequencer({
    db,
    trailFile: '/trail/trail.jsonl',
    signer,
    publish: async (events) => {
      for (const { tenant, stream, type } of events) {
        const aggregate = stream.startsWith('ex-') ? 'exec' : 'other'
        broker.publish(process, `v1.${tenant}.evt.${aggregate}.${stream}.${type}`, {})
      }
      await world.pause(1)
    },
    onPlaced: (streams) => {
      if (streams.some((stream) => isId('sb', stream))) orphans.nudge()
    },
    onError,
  })
  const heartbeats = new Heartbeats(scheduler, 16)
  const commands = new SandboxController(scheduler)
  const workers = new WorkerController(scheduler, heartbeats)
  broker.listen(process, /^nudge\.events$/, () => sequencer.nudge())
  broker.listen(process, /^v1\.[^.]+\.evt\.exec\./, (subject) => {
    workers.execEvent({ tokens: subject.split('.') } as never)
  })
  broker.serve(process, /\.req\.sandbox\.create$/, (body, context) => commands.create(body, context))
  broker.serve(process, /\.req\.sandbox\.exec$/, (body, context) => commands.exec(body, context))
  broker.serve(process, /\.req\.sandbox\.signal$/, (body, context) => commands.signal(body, context))
  broker.serve(process, /\.req\.sandbox\.terminate$/, (body, context) => commands.terminate(body, context))
  broker.serve(process, /\.cmd\.sandbox\./, async (body, context) => {
    await commands.queued(body, context)
    return undefined
  })
  broker.serve(process, /^ctl\..*\.heartbeat$/, (body, context) => workers.heartbeat(body, context))
  broker.serve(process, /^ctl\..*\.report$/, (body, context) => workers.report(body, context))
  sequencer.start()
  timers.start()
  orphans.start()
  leases.start()
}

/** As apps/runtime-worker/worker.ts. */
export async function startWorker(
  { world, broker, judge, runtimeWeather }: Surroundings,
  process: SimProcess,
  machine: Machine,
  workerId: WorkerId,
): Promise<Sandboxes> {
  const log = logOf(world, process)
  const messaging = broker.connect(process)
  const control = async <Reply>(what: 'heartbeat' | 'report', body: object) => {
    const options = { timeoutMs: REPORT_MS_MAX }
    return (await messaging.request(controlSubject(workerId, what), body, options)) as unknown as Reply
  }
  machine.disk.makeDirectories('/state')
  const spool = new Spool('/state/spool', SPOOL_LIMITS)
  const outbox = new Outbox((report) => control<ReportReply>('report', report), log)
  const driver = new SimRuntime(world, machine, judge, runtimeWeather, process)
  const sandboxes = new Sandboxes('/state', { driver, spool, outbox, log, stageVolumes: async () => [] })
  await sandboxes.resume()
  new Janitor({ spool, sandboxes, log }).start()
  const noSecrets = { publicKey: '', open: () => ({ env: {}, stdin: null }) }
  const take = async (order: unknown) => takeOrder(parseOrder(order), sandboxes, noSecrets, log)
  broker.serve(process, new RegExp(`^wrk\\.${workerId}\\.order$`), take)
  const incarnation = String(world.random.uint32())
  const heartbeat = new HeartbeatLoop({
    compose: async (): Promise<Heartbeat> => ({
      workerId,
      incarnation,
      info: INFO,
      capacity: { cpuMillis: 2_000, memoryBytes: 2 * GIB, diskBytes: 100 * GIB },
      poolFreeBytes: 50 * GIB,
      ...sandboxes.inventory(),
    }),
    send: (body) => control<HeartbeatReply>('heartbeat', body),
    take,
    log,
  })
  heartbeat.start()
  return sandboxes
}

const INFO: Heartbeat['info'] = {
  hostname: 'host',
  version: '0',
  runtimes: ['gvisor'],
  dataPlaneUrl: 'https://127.0.0.1:1',
  certificate: '',
  sealKey: `X${'A'.repeat(55)}`,
}

/** Not a signature: nobody verifies here, and a real one would be a tenth of a run's time. */
const signer = {
  origin: 'sim',
  publicKey: '',
  sign: (size: number, root: Buffer) => `sim\n${size}\n${root.toString('base64')}\n\n— sim none\n`,
}
