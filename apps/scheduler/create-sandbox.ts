/** `sandbox.create`: accepted and placed in one transaction. */

import { type Command, handleCommand, newId, record } from '#libs/command-handling'
import type { Accepted, CommandBody } from '#libs/contract'
import {
  type AppId,
  appAggregate,
  decideSandbox,
  Rejected,
  type SandboxSpec,
  type WorkerId,
} from '#libs/domain'
import { listWorkers, load, type Worker } from '#libs/event-store'
import type { Scheduler } from './context.js'
import { appClaim, nameClaims, nameTaken, volumeClaim } from './names.js'
import { checkOrderFits, createOrder, dispatch } from './orders.js'
import { proposeWorkers, type WorkerLoad } from './placement.js'
import { type Placed, resolveImage, resolveVolume } from './resolve.js'
import { toSpec } from './sandbox-spec.js'
import { sealForLog } from './secrets.js'
import { startTimer } from './timers.js'

/** The first placement of a sandbox; a later one, or a restore, counts up. */
const FIRST_EPOCH = 1

export async function createSandbox(
  scheduler: Scheduler,
  command: Command<CommandBody<'sandbox.create'>>,
): Promise<Accepted> {
  const { tenant, body } = command
  const sandboxId = newId('sb')
  let placed: Placed | undefined
  const { accepted, isNew } = await handleCommand(scheduler, command, async () => {
    const { spec, workerId, apps } = await plan(scheduler, tenant, body)
    checkOrderFits(spec, { env: body.env })
    const placement = { workerId, epoch: FIRST_EPOCH }
    const events = decideSandbox({ status: 'absent' }, { type: 'CreateSandbox', spec, placement })
    placed = { status: 'starting', spec, ...placement }
    return {
      outcome: { sandboxId },
      writes: [
        {
          stream: sandboxId,
          expectedVersion: 0,
          events: record(events, await sealForLog(scheduler, tenant, sandboxId, { env: body.env })),
        },
      ],
      live: { action: 'open', sandboxId, ...placement },
      reservation: { action: 'take', sandboxId, workerId, resources: spec.resources },
      claims: {
        take: nameClaims(spec, sandboxId),
        require: [
          // A volume that is removed meanwhile would be mounted empty, and what is written there lost.
          ...spec.volumes.map(({ name, volumeId }) => volumeClaim(name, volumeId)),
          // Nothing would end what came into an app after its end.
          ...apps.map(appClaim),
        ],
      },
      timers: { set: [startTimer(sandboxId)] },
      onClaimTaken: () => nameTaken(spec),
    }
  })
  if (isNew && placed) {
    dispatch(scheduler, placed.workerId, createOrder(scheduler, tenant, sandboxId, placed))
  }
  return accepted
}

/** What it will be and where. Made anew for each try: a worker that filled up meanwhile is not proposed again. */
async function plan(
  { db }: Scheduler,
  tenant: string,
  body: CommandBody<'sandbox.create'>,
): Promise<{ spec: SandboxSpec; workerId: WorkerId; apps: AppId[] }> {
  const [image, mounts, workers, apps] = await Promise.all([
    resolveImage(db, tenant, body.image),
    Promise.all(body.volumes.map((mount) => resolveVolume(db, tenant, mount))),
    listWorkers(db),
    runningApps(db, tenant, body.appId as AppId | null),
  ])
  const { replicas, ...imageRef } = image
  const volumes = mounts.map(({ home: _, ...mount }) => mount)
  const spec = toSpec(body, imageRef, volumes)
  const need = { resources: spec.resources, image: { ref: image.ref, replicas }, volumes: mounts }
  return { spec, workerId: proposeWorkers(workers.map(toLoad), need)[0]!, apps }
}

/** The app to hold on to, when one is named. @throws Rejected APP_NOT_FOUND, APP_STOPPED */
async function runningApps(db: Scheduler['db'], tenant: string, appId: AppId | null): Promise<AppId[]> {
  if (appId === null) return []
  const { state } = await load(db, appAggregate, appId, { tenant })
  if (state.status === 'absent') {
    throw new Rejected('APP_NOT_FOUND', `no app has the id ${appId}`, { hint: 'see `sandtrail app ls`' })
  }
  if (state.status === 'stopped') {
    throw new Rejected('APP_STOPPED', `the app ${appId} has been stopped`, { hint: 'make a new one' })
  }
  return [appId]
}

/** Five heartbeats: a worker that is silent for so long keeps what it has, but gets nothing new. */
const FRESH_MS = 10_000

function toLoad(worker: Worker): WorkerLoad {
  const { capacity, reserved, cpuFactor } = worker
  return {
    workerId: worker.workerId as WorkerId,
    active: worker.state === 'active' && worker.heartbeatAgeMs < FRESH_MS,
    free: {
      cpuMillis: capacity.cpuMillis * cpuFactor - reserved.cpuMillis,
      memoryBytes: capacity.memoryBytes - reserved.memoryBytes,
      diskBytes: capacity.diskBytes - reserved.diskBytes,
    },
    poolFreeBytes: worker.poolFreeBytes,
  }
}
