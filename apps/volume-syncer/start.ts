/** Puts the volume-syncer together: commands of tenants, commits under way, and what ended sandboxes left. */

import 'reflect-metadata'
import { NestFactory } from '@nestjs/core'
import type { MicroserviceOptions } from '@nestjs/microservices'
import { assertDurable, openDatabase, TimerLoop } from '#libs/event-store'
import { connect, JetStreamServer } from '#libs/messaging'
import { brokerSettings, type Log, Operations, type Running, watchBroker, watchDatabase } from '#libs/service'
import { admitRequests, TenantGate } from '#libs/tenancy'
import { COMMIT_TIMER, driveCommit } from './commits.js'
import type { VolumeSyncerConfig } from './config.js'
import type { VolumeSyncer } from './context.js'
import { driveRemoval, REMOVE_TIMER } from './remove-volume.js'
import { stagedVolumes } from './staged-volumes.js'
import { VolumeSyncerModule } from './volume-syncer.module.js'

/** Resolves when it serves. */
export async function startVolumeSyncer(
  config: VolumeSyncerConfig,
  log: Log,
  operations = new Operations(log),
): Promise<Running> {
  const db = openDatabase({ url: config.SANDTRAIL_DATABASE_URL, name: 'volume-syncer' })
  await assertDurable(db)
  const messaging = await connect({
    ...brokerSettings(config),
    name: 'volume-syncer',
    log,
  })
  watchDatabase(operations, db)
  watchBroker(operations, messaging.connection)
  const timers: TimerLoop = new TimerLoop(
    db,
    {
      [COMMIT_TIMER]: (timer) => driveCommit(syncer, timer),
      [REMOVE_TIMER]: (timer) => driveRemoval(syncer, timer),
    },
    (err) => log.warn({ err }, 'work on a volume is not done yet, it is tried again'),
  )
  const syncer: VolumeSyncer = {
    db,
    messaging,
    hashKey: Buffer.from('volume-syncer'),
    gate: new TenantGate(db, 'volume-syncer', log),
    onCommitted: () => messaging.nudge(),
    timers,
    log,
  }
  const staged = stagedVolumes(syncer)
  const nudges = messaging.subscribe('v1.*.evt.sandbox.>', () => staged.nudge())
  const app = await NestFactory.createMicroservice<MicroserviceOptions>(VolumeSyncerModule.with(syncer), {
    strategy: new JetStreamServer({ messaging, name: 'volume-syncer', admit: admitRequests(syncer.gate) }),
    logger: ['error', 'warn'],
  })
  timers.start()
  staged.start()
  await syncer.gate.start()
  await app.listen()
  return {
    async stop() {
      await app.close()
      await syncer.gate.stop()
      nudges.close()
      await Promise.all([timers.stop(), staged.stop()])
      await messaging.close()
      await db.end()
    },
  }
}
