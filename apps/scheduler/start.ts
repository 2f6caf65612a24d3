/** Puts the scheduler together: commands and facts in, events out; the sequencer and the timers run in it too. */

import 'reflect-metadata'
import { createHmac } from 'node:crypto'
import { NestFactory } from '@nestjs/core'
import type { MicroserviceOptions } from '@nestjs/microservices'
import { isId } from '#libs/domain'
import {
  appsProjection,
  assertDurable,
  loadSigner,
  openDatabase,
  Projector,
  purgeCommands,
  purgeRefusals,
  republishFrom,
  Sealer,
  Sequencer,
  sandboxesProjection,
  TimerLoop,
} from '#libs/event-store'
import { failpoint } from '#libs/failpoint'
import { connect, JetStreamServer, NUDGE_EVENTS, publishEvents, watchStreams } from '#libs/messaging'
import { brokerSettings, type Log, Operations, type Running, watchBroker, watchDatabase } from '#libs/service'
import { admitRequests, TenantGate } from '#libs/tenancy'
import type { SchedulerConfig } from './config.js'
import type { Scheduler } from './context.js'
import { ExecWaiters } from './exec-waiters.js'
import { Heartbeats } from './heartbeat.js'
import { Leases } from './leases.js'
import { watchScheduler } from './metrics.js'
import { orphanedExecs } from './orphaned-execs.js'
import { SchedulerModule } from './scheduler.module.js'
import { stoppedApps } from './stopped-apps.js'
import { timerHandlers } from './timer-handlers.js'

/** How often what is past keeping is looked for: commands, and at most 1,000 refusals. */
const PURGE_MS = 60_000

/** Resolves when it serves. `stop` may take as long as the work in hand. */
export async function startScheduler(
  config: SchedulerConfig,
  log: Log,
  operations = new Operations(log),
): Promise<Running> {
  const scheduler = await connectAll(config, log)
  const { db, messaging, gate } = scheduler
  const onError = (err: unknown) => log.warn({ err }, 'a loop of the scheduler failed, it goes on')

  const leases = new Leases(scheduler, config.SANDTRAIL_LEASE_GRACE_MS)
  const timers = new TimerLoop(db, timerHandlers(scheduler, leases), onError)
  const orphans = orphanedExecs(scheduler)
  const sandboxes = new Projector(db, sandboxesProjection, log)
  const stopped = stoppedApps(scheduler)
  const apps = new Projector(db, appsProjection, log)
  const sequencer = new Sequencer({
    db,
    trailFile: config.SANDTRAIL_TRAIL_FILE,
    signer: loadSigner(config.SANDTRAIL_TRAIL_KEY_FILE, config.SANDTRAIL_TRAIL_ORIGIN),
    publish: async (events) => {
      failpoint('publish-begun')
      await publishEvents(messaging, events)
      failpoint('publish-done')
    },
    onPlaced: (streams) => {
      failpoint('sequencer-placed')
      if (streams.some((stream) => isId('ap', stream))) {
        stopped.nudge()
        apps.nudge()
      }
      // Execs alone can wait for the followers' next poll: a table of those that may need help is no hurry.
      if (!streams.some((stream) => isId('sb', stream))) return
      orphans.nudge()
      sandboxes.nudge()
    },
    onError,
  })
  watchDatabase(operations, db)
  watchBroker(operations, messaging.connection)
  watchScheduler(operations, scheduler, sequencer)
  const nudges = messaging.subscribe(NUDGE_EVENTS, () => sequencer.nudge())
  const streams = await watchStreams(messaging, (last) => republishFrom(db, (last ?? 0n) + 1n))
  const heartbeats = new Heartbeats(scheduler, config.SANDTRAIL_CPU_FACTOR)

  const app = await NestFactory.createMicroservice<MicroserviceOptions>(
    SchedulerModule.with(scheduler, heartbeats),
    {
      strategy: new JetStreamServer({ messaging, name: 'scheduler', admit: admitRequests(gate) }),
      logger: ['error', 'warn'],
    },
  )
  const purge = () => Promise.all([purgeCommands(db), purgeRefusals(db)]).catch(onError)
  const purging = setInterval(() => void purge(), PURGE_MS)
  await gate.start()
  sequencer.start()
  timers.start()
  orphans.start()
  sandboxes.start()
  stopped.start()
  apps.start()
  leases.start()
  await app.listen()

  return {
    async stop() {
      leases.stop()
      clearInterval(purging)
      scheduler.waiters.close()
      await app.close()
      await gate.stop()
      await Promise.all([timers, orphans, sandboxes, stopped, apps].map((loop) => loop.stop()))
      nudges.close()
      streams.close()
      // Last of all: what was accepted in the meantime still gets its position and its place in the trail file.
      await sequencer.stop()
      await messaging.close()
      await db.end()
    },
  }
}

async function connectAll(config: SchedulerConfig, log: Log): Promise<Scheduler> {
  const db = openDatabase({ url: config.SANDTRAIL_DATABASE_URL, max: 20, name: 'scheduler' })
  await assertDurable(db)
  const messaging = await connect({
    ...brokerSettings(config),
    name: 'scheduler',
    log,
  })
  const masterKey = config.SANDTRAIL_MASTER_KEY_FILE
  return {
    db,
    messaging,
    sealer: new Sealer(db, masterKey),
    hashKey: createHmac('sha256', masterKey).update('command-hash').digest(),
    onCommitted: () => messaging.nudge(),
    waiters: new ExecWaiters(db),
    gate: new TenantGate(db, 'scheduler', log),
    log,
  }
}
