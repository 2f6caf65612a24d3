/** Starts the gateway: HTTP, NATS reads and the Modal SDKs' port in one process. */

import type { Server as HttpServer } from 'node:http'
import type { Server as HttpsServer } from 'node:https'
import { NestFactory } from '@nestjs/core'
import type { NestExpressApplication } from '@nestjs/platform-express'
import { Rejected, type SandtrailError, toErrorBody } from '#libs/domain'
import { type Database, openDatabase, Sealer } from '#libs/event-store'
import { BODY_BYTES_MAX, connect, JetStreamServer, type Messaging, NUDGE_EVENTS } from '#libs/messaging'
import { type Log, Operations, type Running, watchBroker, watchDatabase } from '#libs/service'
import { FileBlobStore } from '#libs/storage'
import { admitRequests, TenantGate } from '#libs/tenancy'
import { refusePlaintext, ServerCertificate, type TlsIdentity } from '#libs/tls'
import type { GatewayConfig, HttpTls } from './config.js'
import { DataPlane } from './data-plane/client.js'
import { Drain } from './drain.js'
import { Gateway } from './gateway.js'
import { GatewayModule } from './gateway.module.js'
import { answerMalformed } from './http/malformed-request.js'
import { parseJson, refuseNul } from './http/strict-request.js'
import { startModalServer } from './modal/server.js'
import { startBlobJanitor } from './prune.js'
import { StreamWaiter } from './stream-waiter.js'

/** An upload of an image may be long; a client that sends nothing at all is given up by the socket's own timeout. */
const REQUEST_MS_MAX = 3_600_000

export interface RunningGateway extends Running {
  /** Where it listens. */
  url: string
  modalPort: number
}

export async function startGateway(
  config: GatewayConfig,
  log: Log,
  operations = new Operations(log),
): Promise<RunningGateway> {
  const db = openDatabase({ url: config.databaseUrl, name: 'gateway' })
  await refuseDistrust(db)
  const messaging = await connect({ ...config.nats, name: 'gateway', log })
  watchDatabase(operations, db)
  watchBroker(operations, messaging.connection)
  const certificate = config.http.tls === null ? null : watchCertificate(config.http.tls, operations, log)
  const waiter = new StreamWaiter(db, log)
  const dataPlane = new DataPlane(db, config.dataPlaneKey)
  const gateway = new Gateway({
    db,
    messaging,
    waiter,
    dataPlane,
    gate: new TenantGate(db, 'gateway', log),
    sealer: new Sealer(db, config.masterKey),
    dataPlaneKey: config.dataPlaneKey,
    blobs: await FileBlobStore.open(config.blobs.dir),
    publicUrl: config.publicUrl,
    ca: config.ca,
    blobKeepMs: config.blobs.keepMs,
    blobKey: config.blobs.key,
    encryption: {
      httpHost: config.http.host,
      certificate,
      natsUrl: config.nats.servers,
      databaseUrl: config.databaseUrl,
      secretFiles: config.secretFiles,
    },
    trail: config.trail === null ? null : { ...config.trail, databaseUrl: config.databaseUrl },
    log,
  })
  const nudges = messaging.subscribe(NUDGE_EVENTS, () => waiter.nudge())
  const drain = new Drain()
  const app = await createApp(gateway, messaging, drain, config.http.tls?.current)
  await gateway.gate.start()
  const janitor = startBlobJanitor(gateway)
  await app.startAllMicroservices()
  const server = app.getHttpServer() as HttpServer & HttpsServer
  if (certificate !== null) {
    refusePlaintext(server, { error: toErrorBody(SPEAKS_TLS) })
    certificate.start(server)
  }
  await app.listen(config.http.port, config.http.host)
  server.requestTimeout = REQUEST_MS_MAX
  answerMalformed(server)
  const modal = await startModalServer(gateway, {
    host: config.http.host,
    port: config.modalPort,
    tls: config.http.tls,
  })
  return {
    url: await app.getUrl(),
    modalPort: modal.port,
    async stop() {
      nudges.close()
      janitor.stop()
      certificate?.stop()
      // Waits are answered with what is true now, as when their time is up.
      waiter.stop()
      await modal.stop()
      await drain.drain(server)
      await app.close()
      await gateway.gate.stop()
      dataPlane.close()
      await messaging.close()
      await db.end()
    },
  }
}

/** A database that cannot be trusted stops the start; one that is away does not: reads come when it is back. */
async function refuseDistrust(db: Database): Promise<void> {
  await db.query('select 1').catch((error) => {
    if ((error as Partial<SandtrailError>).code === 'TLS_FAILED') throw error
  })
}

const SPEAKS_TLS = new Rejected('INVALID_ARGUMENT', 'this port speaks TLS, and the request came without it', {
  hint: 'use https:// in the URL',
})

function watchCertificate(
  { current, ...files }: HttpTls,
  operations: Operations,
  log: Log,
): ServerCertificate {
  const certificate = new ServerCertificate(files, current, (change) => {
    if ('fault' in change) log.error(change, 'the new certificate is not usable, the old one stays in use')
    else log.info(change, 'a new certificate is in use')
  })
  operations.gauge(
    'sandtrail_tls_certificate_expiry_seconds',
    'End of the HTTP certificate, Unix time.',
    [],
    () => [{ value: +certificate.expiresAt / 1000 }],
  )
  return certificate
}

async function createApp(
  gateway: Gateway,
  messaging: Messaging,
  drain: Drain,
  identity: TlsIdentity | undefined,
): Promise<NestExpressApplication> {
  const app = await NestFactory.create<NestExpressApplication>(GatewayModule.with(gateway), {
    logger: ['error'],
    bodyParser: false,
    // A stop does not wait for followers: they come back with their offset.
    forceCloseConnections: true,
    ...(identity ? { httpsOptions: { cert: identity.cert, key: identity.key } } : {}),
  })
  app.use(drain.track)
  app.use(refuseNul)
  // What HTTP takes in JSON must fit into a message.
  app.useBodyParser('raw', { type: 'application/json', limit: BODY_BYTES_MAX })
  app.use(parseJson)
  app.disable('x-powered-by')
  app.disable('etag')
  const admit = admitRequests(gateway.gate)
  app.connectMicroservice({ strategy: new JetStreamServer({ messaging, name: 'gateway', admit }) })
  return app
}
