/** Puts the snapshotter together: commands in, tasks to workers out, events of images and snapshots. */

import 'reflect-metadata'
import { NestFactory } from '@nestjs/core'
import type { MicroserviceOptions } from '@nestjs/microservices'
import { assertDurable, openDatabase, Projector, TimerLoop } from '#libs/event-store'
import { connect, JetStreamServer } from '#libs/messaging'
import { Jobs } from '#libs/pool-tasks'
import { brokerSettings, type Log, Operations, type Running, watchBroker, watchDatabase } from '#libs/service'
import { admitRequests, TenantGate } from '#libs/tenancy'
import { Blobs } from './blobs.js'
import type { SnapshotterConfig } from './config.js'
import { type Job, SERVICE, type Snapshotter } from './context.js'
import { takeSnapshot } from './create-snapshot.js'
import { imagesProjection, unfinishedImages } from './images-table.js'
import { fillPools } from './import-image.js'
import { Rests } from './rests.js'
import { snapshotsProjection, unfinishedSnapshots } from './snapshots-table.js'
import { SnapshotterModule } from './snapshotter.module.js'
import { timerHandlers } from './timer-handlers.js'

/** Resolves when it serves. What is unfinished at a stop is found again by the next start. */
export async function startSnapshotter(
  config: SnapshotterConfig,
  log: Log,
  operations = new Operations(log),
): Promise<Running> {
  const db = openDatabase({ url: config.SANDTRAIL_DATABASE_URL, max: 10, name: SERVICE })
  await assertDurable(db)
  const messaging = await connect({
    ...brokerSettings(config),
    name: SERVICE,
    log,
  })
  watchDatabase(operations, db)
  watchBroker(operations, messaging.connection)
  const onError = (err: unknown, job?: object) => log.warn({ err, ...job }, 'work failed, it is tried again')
  const jobs = new Jobs<Job>({
    scan: () => unfinished(snapshotter),
    run: (job, signal) => runJob(snapshotter, job, signal),
    onError,
  })
  const snapshotter: Snapshotter = {
    db,
    messaging,
    blobs: new Blobs(config.SANDTRAIL_PUBLIC_URL, config.SANDTRAIL_BLOB_KEY_FILE, config.SANDTRAIL_CA_FILE),
    jobs,
    rests: new Rests(),
    hashKey: Buffer.from(SERVICE),
    gate: new TenantGate(db, SERVICE, log),
    onCommitted: () => messaging.nudge(),
    log,
  }
  const timers = new TimerLoop(db, timerHandlers(snapshotter), onError)
  const images = new Projector(db, imagesProjection, log)
  const snapshots = new Projector(db, snapshotsProjection, log)
  const wakeUps = [
    messaging.subscribe('v1.*.evt.image.>', () => images.nudge()),
    messaging.subscribe('v1.*.evt.snapshot.>', () => snapshots.nudge()),
  ]
  const app = await NestFactory.createMicroservice<MicroserviceOptions>(SnapshotterModule.with(snapshotter), {
    strategy: new JetStreamServer({ messaging, name: SERVICE, admit: admitRequests(snapshotter.gate) }),
    logger: ['error', 'warn'],
  })
  images.start()
  snapshots.start()
  timers.start()
  jobs.start()
  await snapshotter.gate.start()
  await app.listen()

  return {
    async stop() {
      await app.close()
      await snapshotter.gate.stop()
      for (const wakeUp of wakeUps) wakeUp.close()
      await Promise.all([jobs.stop(), timers.stop(), images.stop(), snapshots.stop()])
      await messaging.close()
      await db.end()
    },
  }
}

function runJob(snapshotter: Snapshotter, job: Job, signal: AbortSignal): Promise<void> {
  return job.kind === 'snapshot'
    ? takeSnapshot(snapshotter, job, signal)
    : fillPools(snapshotter, job, signal)
}

async function unfinished({ db }: Snapshotter): Promise<Job[]> {
  const [images, snapshots] = await Promise.all([unfinishedImages(db), unfinishedSnapshots(db)])
  return [
    ...images.map((image) => ({ ...image, key: image.imageId })),
    ...snapshots.map((snapshot) => ({ kind: 'snapshot' as const, ...snapshot, key: snapshot.snapshotId })),
  ]
}
