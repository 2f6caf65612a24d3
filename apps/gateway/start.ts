/** Starts the gateway: HTTP and NATS reads in one process. */

import { NestFactory } from '@nestjs/core'
import type { NestExpressApplication } from '@nestjs/platform-express'
import { openDatabase } from '#libs/event-store'
import { BODY_BYTES_MAX, connect, JetStreamServer, type Messaging, NUDGE_EVENTS } from '#libs/messaging'
import { type Log, Operations, type Running, watchBroker, watchDatabase } from '#libs/service'
import { FileBlobStore } from '#libs/storage'
import { admitRequests, TenantGate } from '#libs/tenancy'
import type { GatewayConfig } from './config.js'
import { DataPlane } from './data-plane/client.js'
import { Drain } from './drain.js'
import { Gateway } from './gateway.js'
import { GatewayModule } from './gateway.module.js'
import { parseJson, refuseNul } from './http/strict-request.js'
import { startBlobJanitor } from './prune.js'
import { StreamWaiter } from './stream-waiter.js'

/** An upload of an image may be long; a client that sends nothing at all is given up by the socket's own timeout. */
const REQUEST_MS_MAX = 3_600_000

export interface RunningGateway extends Running {
  /** Where it listens. */
  url: string
}

export async function startGateway(
  config: GatewayConfig,
  log: Log,
  operations = new Operations(log),
): Promise<RunningGateway> {
  const db = openDatabase({ url: config.databaseUrl, name: 'gateway' })
  const messaging = await connect({
    servers: config.nats.url,
    credentials: config.nats.credentials,
    name: 'gateway',
    log,
  })
  watchDatabase(operations, db)
  watchBroker(operations, messaging.connection)
  const waiter = new StreamWaiter(db, log)
  const dataPlane = new DataPlane(db, config.dataPlaneKey)
  const gateway = new Gateway({
    db,
    messaging,
    waiter,
    dataPlane,
    gate: new TenantGate(db, 'gateway', log),
    blobs: await FileBlobStore.open(config.blobs.dir),
    publicUrl: config.publicUrl,
    blobKeepMs: config.blobs.keepMs,
    blobKey: config.blobs.key,
    trail: config.trail === null ? null : { ...config.trail, databaseUrl: config.databaseUrl },
    log,
  })
  const nudges = messaging.subscribe(NUDGE_EVENTS, () => waiter.nudge())
  const drain = new Drain()
  const app = await createApp(gateway, messaging, drain)
  gateway.gate.start()
  const janitor = startBlobJanitor(gateway)
  await app.startAllMicroservices()
  const server = await app.listen(config.http.port, config.http.host)
  server.requestTimeout = REQUEST_MS_MAX
  return {
    url: await app.getUrl(),
    async stop() {
      nudges.close()
      janitor.stop()
      // Waits are answered with what is true now, as when their time is up.
      waiter.stop()
      await drain.drain(server)
      await app.close()
      await gateway.gate.stop()
      dataPlane.close()
      await messaging.close()
      await db.end()
    },
  }
}

async function createApp(
  gateway: Gateway,
  messaging: Messaging,
  drain: Drain,
): Promise<NestExpressApplication> {
  const app = await NestFactory.create<NestExpressApplication>(GatewayModule.with(gateway), {
    logger: ['error'],
    bodyParser: false,
    // A stop does not wait for followers: they come back with their offset.
    forceCloseConnections: true,
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
