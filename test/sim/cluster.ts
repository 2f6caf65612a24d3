/** Schedulers and workers on their machines, started again when they die, and the faults that befall them. */

import { makeId, type WorkerId } from '#libs/domain'
import type { Sandboxes } from '../../apps/runtime-worker/sandboxes/registry.js'
import type { Climate, Sudden } from './climate.js'
import { Disk } from './disk.js'
import { Machine } from './guest.js'
import { type Surroundings, startScheduler, startWorker } from './nodes.js'
import { SimProcess } from './world.js'

/** A process's place: on one machine, under a supervisor that starts it again. */
interface Place {
  name: string
  machine: Machine
  workerId: WorkerId | null
  process: SimProcess | null
  sandboxes: Sandboxes | null
}

export class Cluster {
  readonly schedulers: Place[] = []
  readonly workers: Place[] = []

  constructor(
    private readonly around: Surroundings,
    private readonly climate: Climate,
    machines: Machine[],
  ) {
    for (const machine of machines) {
      const isWorker = machine.name.startsWith('worker')
      const workerId = isWorker ? makeId('wk', 0, around.world.random.bytes(10)) : null
      const place = { name: machine.name, machine, workerId, process: null, sandboxes: null }
      ;(isWorker ? this.workers : this.schedulers).push(place)
    }
    around.world.onDeath((process) => this.onDeath(process))
    around.world.onStop((process) => around.postgres.onStopped(process))
  }

  static machines(around: Pick<Surroundings, 'world'>, schedulers: number, workers: number): Machine[] {
    const make = (name: string) => new Machine(around.world, name, new Disk())
    return [
      ...Array.from({ length: schedulers }, (_, i) => make(`scheduler-${i}`)),
      ...Array.from({ length: workers }, (_, i) => make(`worker-${i}`)),
    ]
  }

  get workerIds(): WorkerId[] {
    return this.workers.map(({ workerId }) => workerId!)
  }

  start(): void {
    for (const place of [...this.schedulers, ...this.workers]) this.boot(place)
  }

  strike(fault: Sudden): void {
    const { world, broker, postgres } = this.around
    const { random } = world
    const scheduler = random.pick(this.schedulers)
    const worker = random.pick(this.workers)
    const longMs = random.chance(0.3) ? random.between(5_000, 40_000) : random.between(50, 4_000)
    world.trace.add('fault', fault)
    const strikes: Record<Sudden, () => void> = {
      'kill-scheduler': () => this.killSoon(scheduler),
      'kill-worker': () => this.killSoon(worker),
      'stop-scheduler': () => this.stopFor(scheduler, longMs),
      'stop-worker': () => this.stopFor(worker, longMs),
      'cut-off-scheduler': () => this.cutOffFor(scheduler, longMs),
      'cut-off-worker': () => this.cutOffFor(worker, longMs),
      'broker-away': () => {
        broker.isAway = true
        world.after(longMs, () => this.mendBroker(), null)
      },
      'broker-wiped': () => broker.wipe(),
      'database-restart': () => postgres.restart(),
      'database-away': () => {
        this.climate.databaseIsAway = true
        postgres.restart()
        world.after(longMs, () => this.mendDatabase(), null)
      },
      'power-cut': () => {
        if (worker.process) world.kill(worker.process)
        worker.machine.cutPower()
      },
      'guest-dies': () => this.anyGuest()?.die('the guest crashed'),
      'guest-silent': () => {
        const guest = this.anyGuest()
        if (guest) guest.isSilentUntilMs = world.now + longMs
      },
      'clock-jumps': () => {
        random.pick([scheduler, worker]).machine.clockSkewMs = random.between(-30_000, 30_000)
      },
    }
    strikes[fault]()
  }

  /** Everything is as it should be from now on; what is dead is started by its supervisor. */
  heal(): void {
    const { world, broker } = this.around
    this.mendBroker()
    this.mendDatabase()
    broker.cutOff.clear()
    for (const { process, machine } of [...this.schedulers, ...this.workers]) {
      machine.clockSkewMs = 0
      for (const guest of machine.sandboxes.values()) guest.isSilentUntilMs = 0
      if (process === null) continue
      process.fuse = null
      world.continue(process)
    }
  }

  private anyGuest() {
    const guests = this.workers.flatMap(({ machine }) => [...machine.sandboxes.values()])
    return guests.length === 0 ? undefined : this.around.world.random.pick(guests)
  }

  /** At once, or in the middle of one of its next operations. */
  private killSoon({ process }: Place): void {
    const { world } = this.around
    if (process === null || process.state === 'dead') return
    if (world.random.chance(0.3)) world.kill(process)
    else process.fuse = world.random.int(0, 40)
  }

  private stopFor({ process }: Place, ms: number): void {
    const { world } = this.around
    if (process === null) return
    world.stop(process)
    world.after(ms, () => world.continue(process), null)
  }

  private cutOffFor({ process }: Place, ms: number): void {
    const { world, broker } = this.around
    if (process === null) return
    broker.cutOff.add(process)
    world.after(ms, () => broker.cutOff.delete(process), null)
  }

  private mendBroker(): void {
    this.around.broker.isAway = false
  }

  private mendDatabase(): void {
    this.climate.databaseIsAway = false
  }

  private onDeath(process: SimProcess): void {
    const { world, postgres } = this.around
    postgres.disconnect(process)
    const place = [...this.schedulers, ...this.workers].find((each) => each.process === process)
    if (!place) return
    place.sandboxes = null
    const ms = world.random.chance(0.2)
      ? world.random.between(5_000, 20_000)
      : world.random.between(100, 3_000)
    world.after(ms, () => this.boot(place), null)
  }

  private boot(place: Place): void {
    const { world } = this.around
    const process = new SimProcess(place.name, place.machine)
    place.process = process
    world.trace.add('boot', place.name)
    world.inside(process, () => {
      if (place.workerId === null) startScheduler(this.around, process)
      else void this.bootWorker(place, process, place.workerId)
    })
  }

  private async bootWorker(place: Place, process: SimProcess, workerId: WorkerId): Promise<void> {
    place.sandboxes = await startWorker(this.around, process, place.machine, workerId)
  }
}
