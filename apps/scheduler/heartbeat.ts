/**
 * A worker says what it has; the answer is every order that this shows to be missing. Level-triggered: whatever was
 * lost on the fast path, by a crash on either side or with the broker, is set right here.
 */

import { HEARTBEAT_MS, type Heartbeat, type HeartbeatReply, type Order } from '#libs/contract'
import { type ExecId, execAggregate, Rejected, type SandboxId, sandboxAggregate } from '#libs/domain'
import { type Database, findWorker, type LiveSandbox, listLive, load, upsertWorker } from '#libs/event-store'
import type { Scheduler } from './context.js'
import { declareLost } from './lost-sandboxes.js'
import { unstartedExecsOn } from './open-execs.js'
import { OrderBatch } from './order-batch.js'
import { createOrder, execOrder, stopOrder } from './orders.js'
import { loadSandbox } from './resolve.js'

/**
 * A started sandbox that its worker does not list is gone with the worker's state. Three heartbeats in a row, for a
 * list may have been written just before the sandbox was taken up.
 */
const MISSES_MAX = 3
/** Three heartbeats: one that is silent for longer has ended, or will hear that it was replaced. */
const ALIVE_MS = 3 * HEARTBEAT_MS

export class Heartbeats {
  private readonly misses = new Map<string, number>()
  /** By worker: the process that was last found to be the only one. */
  private readonly incarnations = new Map<string, string>()

  constructor(
    private readonly scheduler: Scheduler,
    private readonly cpuFactor: number,
  ) {}

  async handle(heartbeat: Heartbeat): Promise<HeartbeatReply> {
    const { db } = this.scheduler
    const { workerId, incarnation, capacity, poolFreeBytes, info } = heartbeat
    if (this.incarnations.get(workerId) !== incarnation) await refuseDouble(db, heartbeat)
    this.incarnations.set(workerId, incarnation)
    await upsertWorker(db, {
      workerId,
      incarnation,
      capacity,
      poolFreeBytes,
      info: { ...info },
      cpuFactor: this.cpuFactor,
    })
    // Read after the list was written: whatever the worker lists, and is not here, has ended.
    const live = await listLive(db, heartbeat.workerId)
    const batch = new OrderBatch(this.scheduler.log)
    // Stops first: they free room, and are small.
    for (const order of forUnwanted(heartbeat, live)) await batch.add(order.sandboxId, () => order)
    const stopsFirst = live.toSorted((a, b) => Number(b.state === 'closing') - Number(a.state === 'closing'))
    await this.forWanted(heartbeat, stopsFirst, batch)
    await this.forExecs(heartbeat, batch)
    return { ok: true, orders: batch.orders }
  }

  /** What should be there: created again while it has not started, stopped when it is to stop. */
  private async forWanted(heartbeat: Heartbeat, live: LiveSandbox[], batch: OrderBatch): Promise<void> {
    const has = new Set(heartbeat.sandboxes.map(({ sandboxId, epoch }) => `${sandboxId}/${epoch}`))
    const ending = new Set(heartbeat.sandboxes.filter(isEnding).map(({ sandboxId }) => sandboxId))
    for (const { tenant, epoch, state: liveState, ...row } of live) {
      const sandboxId = row.sandboxId as SandboxId
      const present = has.has(`${sandboxId}/${epoch}`)
      if (present) this.misses.delete(sandboxId)
      if (present && (liveState === 'open' || ending.has(sandboxId))) continue
      if (liveState === 'closing') {
        await batch.add(sandboxId, () => stopOrder(tenant, sandboxId, epoch, 'terminate'))
        continue
      }
      const { state } = await load(this.scheduler.db, sandboxAggregate, sandboxId, { tenant })
      if (state.status === 'starting')
        await batch.add(sandboxId, () => createOrder(this.scheduler, tenant, sandboxId, state))
      else if (state.status === 'running') await this.miss(sandboxId, tenant, epoch)
    }
  }

  private async miss(sandboxId: SandboxId, tenant: string, epoch: number): Promise<void> {
    const misses = (this.misses.get(sandboxId) ?? 0) + 1
    this.misses.set(sandboxId, misses)
    if (misses < MISSES_MAX) return
    this.misses.delete(sandboxId)
    await declareLost(this.scheduler, {
      sandboxId,
      tenant,
      epoch,
      reason: 'its worker does not know it any more',
    })
  }

  private async forExecs({ workerId, openExecs, sandboxes }: Heartbeat, batch: OrderBatch): Promise<void> {
    const known = new Set<ExecId>(openExecs)
    const present = new Set(sandboxes.map(({ sandboxId }) => sandboxId))
    for (const { execId, tenant, sandboxId } of await unstartedExecsOn(
      this.scheduler.db,
      workerId,
      OrderBatch.MAX,
    )) {
      if (batch.isFull) return
      if (known.has(execId) || !present.has(sandboxId)) continue
      const { state } = await load(this.scheduler.db, execAggregate, execId, { tenant })
      if (state.status !== 'requested') continue
      const sandbox = await loadSandbox(this.scheduler.db, tenant, sandboxId)
      await batch.add(execId, () => execOrder(this.scheduler, tenant, sandbox.state, execId, state.spec))
    }
  }
}

/**
 * A worker's state directory is made once, and its seal key with it: another key is another directory, so another
 * worker, of whose sandboxes this one knows nothing. Where the first is silent the second takes its place.
 *
 * @throws Rejected NAME_TAKEN
 */
async function refuseDouble(db: Database, { workerId, info }: Heartbeat): Promise<void> {
  const known = await findWorker(db, workerId)
  if (known === null || known.heartbeatAgeMs > ALIVE_MS) return
  const { sealKey, hostname } = known.info as Partial<Heartbeat['info']>
  if (sealKey === undefined || sealKey === info.sealKey) return
  throw new Rejected('NAME_TAKEN', `another worker that runs, on ${hostname}, has the id ${workerId}`, {
    hint: 'stop that one, or give this one an id and credentials of its own',
  })
}

function isEnding({ state }: Heartbeat['sandboxes'][number]): boolean {
  return state === 'ending' || state === 'ended'
}

/** What should not be there: an epoch that has ended, with its worker lost for a while, say. */
function forUnwanted(heartbeat: Heartbeat, live: LiveSandbox[]): Order[] {
  const wanted = new Set(live.map(({ sandboxId, epoch }) => `${sandboxId}/${epoch}`))
  return heartbeat.sandboxes
    .filter((sandbox) => !isEnding(sandbox) && !wanted.has(`${sandbox.sandboxId}/${sandbox.epoch}`))
    .map(({ tenant, sandboxId, epoch }) => stopOrder(tenant, sandboxId, epoch, 'ended'))
}
