/**
 * Puts the worker together. What lives on this host comes first: sandboxes are found again, their time goes on and
 * their ends are kept, whether or not the broker can be reached.
 */

import 'reflect-metadata'
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { NestFactory } from '@nestjs/core'
import type { MicroserviceOptions } from '@nestjs/microservices'
import { type Heartbeat, type HeartbeatReply, parseOrder, type ReportReply } from '#libs/contract'
import {
  connect,
  controlSubject,
  ErrorsPassThrough,
  JetStreamServer,
  type Messaging,
  workerSubject,
} from '#libs/messaging'
import { brokerSettings, type Log, Operations, type Running, watchBroker } from '#libs/service'
import type { WorkerConfig } from './config.js'
import { type Certificate, loadCertificate } from './data-plane/certificate.js'
import { DataPlane } from './data-plane/server.js'
import { HeartbeatLoop } from './heartbeat.js'
import { Janitor } from './janitor.js'
import { watchControlPlane, watchHost } from './metrics.js'
import { loadSealKey, type SealKey } from './orders/secrets.js'
import { takeOrder } from './orders/take-order.js'
import { Outbox } from './outbox/outbox.js'
import { chooseRuntime, type Runtime } from './runtime-choice.js'
import { Sandboxes } from './sandboxes/registry.js'
import { stageVolumes } from './sandboxes/stage-volumes.js'
import { Spool } from './spool/spool.js'
import { lockState } from './state-lock.js'
import { createTaskHandler } from './tasks/handler.js'
import { WorkerModule } from './worker.module.js'

const VERSION = '0.1.0'
/** The scheduler commits before it answers; a database that is slow must not make us send twice. */
const REPORT_MS_MAX = 15_000
const HOUR_MS = 3_600_000

/** Resolves when orders can come. `stop` ends no sandbox: they live on until the next worker process. */
export async function startWorker(
  config: WorkerConfig,
  log: Log,
  operations = new Operations(log),
): Promise<Running> {
  const stateDir = config.SANDTRAIL_WORKER_STATE_DIR
  const lock = await lockState(stateDir)
  void lock.lost.then(() => {
    log.fatal('the lock of the state directory is lost, another worker may start')
    process.exit(1)
  })
  const sealKey = await loadSealKey(stateDir)
  const runtime = await chooseRuntime(config, log)
  await runtime.driver.probe()

  const connection = connectBroker(config, log)
  const local = await startLocal(config, log, runtime, connection)
  watchHost(operations, runtime, local.sandboxes, local.spool)
  const messaging = await connection
  watchBroker(operations, messaging.connection)
  const take = async (order: unknown) => takeOrder(parseOrder(order), local.sandboxes, sealKey, log)

  const heartbeat = new HeartbeatLoop({
    compose: heartbeatComposer(config, runtime, local, sealKey),
    send: (body) => control<HeartbeatReply>(messaging, config.SANDTRAIL_WORKER_ID, 'heartbeat', body),
    take,
    log,
  })
  await heartbeat.introduce()
  const strategy = new JetStreamServer({ messaging, name: config.SANDTRAIL_WORKER_ID })
  strategy.handle({ request: workerSubject(config.SANDTRAIL_WORKER_ID, 'order') }, take)
  if (local.tasks)
    strategy.handle({ request: workerSubject(config.SANDTRAIL_WORKER_ID, 'task') }, local.tasks)
  const app = await NestFactory.createMicroservice<MicroserviceOptions>(WorkerModule, {
    strategy,
    logger: ['error', 'warn'],
  })
  app.useGlobalFilters(new ErrorsPassThrough())
  await app.listen()
  watchControlPlane(operations, heartbeat)
  heartbeat.start()

  return {
    async stop() {
      await heartbeat.stop()
      await app.close()
      await local.sandboxes.handedOver()
      await local.stop()
      await messaging.close()
      await runtime.stop()
      await lock.release()
    },
  }
}

interface Local {
  sandboxes: Sandboxes
  spool: Spool
  dataPlaneUrl: string
  certificate: Certificate
  tasks: ((body: object) => Promise<object>) | null
  stop(): Promise<void>
}

/** All that needs no broker. */
async function startLocal(
  config: WorkerConfig,
  log: Log,
  runtime: Runtime,
  connection: Promise<Messaging>,
): Promise<Local> {
  const { SANDTRAIL_WORKER_STATE_DIR: stateDir, SANDTRAIL_WORKER_ID: workerId } = config
  const spool = new Spool(join(stateDir, 'spool'), {
    streamBytesMax: config.SANDTRAIL_SPOOL_BYTES_MAX,
    sandboxBytesMax: config.SANDTRAIL_SPOOL_SANDBOX_BYTES_MAX,
    keepMs: config.SANDTRAIL_SPOOL_KEEP_HOURS * HOUR_MS,
    reserveBytes: config.SANDTRAIL_STATE_RESERVE_BYTES,
  })
  const outbox = new Outbox(
    async (report) => control<ReportReply>(await connection, workerId, 'report', report),
    log,
  )
  const { driver, pool, guestSlots } = runtime
  const sandboxes = new Sandboxes(stateDir, {
    driver,
    spool,
    outbox,
    log,
    stageVolumes: async (sandbox) => (pool === null ? [] : stageVolumes(pool, sandbox)),
  })
  await sandboxes.resume()
  const janitor = new Janitor({ spool, sandboxes, log })
  janitor.start()

  const host = config.SANDTRAIL_DATA_PLANE_HOST
  // An address that means "all" is none that a gateway could connect to.
  const advertised = ['0.0.0.0', '::'].includes(host) ? hostname() : host
  const certificate = await loadCertificate(stateDir, advertised)
  const tokenKey = config.SANDTRAIL_DATA_PLANE_PUBLIC_KEY_FILE
  const dataPlane = new DataPlane({ workerId, tokenKey, certificate, sandboxes, spool, log })
  const port = await dataPlane.listen(host, config.SANDTRAIL_DATA_PLANE_PORT)
  return {
    sandboxes,
    spool,
    dataPlaneUrl: `https://${advertised.includes(':') ? `[${advertised}]` : advertised}:${port}`,
    certificate,
    tasks:
      pool === null
        ? null
        : createTaskHandler({
            pool,
            sandboxes,
            guestSlots,
            tidy: (dryRun) => janitor.tidy(dryRun),
            ca: config.SANDTRAIL_CA_FILE,
            log,
          }),
    async stop() {
      janitor.stop()
      await dataPlane.close()
      await outbox.stop()
      sandboxes.detach()
    },
  }
}

function connectBroker(config: WorkerConfig, log: Log): Promise<Messaging> {
  const connection = connect({
    ...brokerSettings(config),
    name: config.SANDTRAIL_WORKER_ID,
    log,
  })
  connection.catch(() => {}) // Awaited later; facts wait meanwhile.
  return connection
}

async function control<Reply>(
  messaging: Messaging,
  workerId: string,
  what: 'heartbeat' | 'report',
  body: object,
): Promise<Reply> {
  const reply = await messaging.request(controlSubject(workerId, what), body, { timeoutMs: REPORT_MS_MAX })
  return reply as unknown as Reply
}

function heartbeatComposer(config: WorkerConfig, runtime: Runtime, local: Local, sealKey: SealKey) {
  const incarnation = randomUUID()
  const info: Heartbeat['info'] = {
    hostname: hostname(),
    version: VERSION,
    // The fake answers for gVisor: to the control plane it is a worker like any other.
    runtimes: ['gvisor'],
    dataPlaneUrl: local.dataPlaneUrl,
    certificate: local.certificate.certificate,
    sealKey: sealKey.publicKey,
  }
  return async (): Promise<Heartbeat> => {
    const { totalBytes, freeBytes } = await runtime.disk()
    return {
      workerId: config.SANDTRAIL_WORKER_ID,
      incarnation,
      info,
      capacity: {
        cpuMillis: config.SANDTRAIL_CPU_MILLIS,
        memoryBytes: config.SANDTRAIL_MEMORY_BYTES,
        diskBytes: totalBytes,
      },
      poolFreeBytes: freeBytes,
      ...local.sandboxes.inventory(),
    }
  }
}
