/**
 * The simulated world: virtual time, processes that may die or be stopped at any point, and one queue of everything
 * that is going to happen. Between two entries of the queue every promise that can go on has gone on, so a run is a
 * function of its seed alone.
 *
 * Which process code runs in is an async context: timers, disk, database and network ask for it, and what a dead
 * process began never comes back to it.
 */

import { AsyncLocalStorage } from 'node:async_hooks'
import type { Disk } from './disk.js'
import { Random } from './random.js'
import { Trace } from './trace.js'

const nextTurn = setImmediate
/** 2027-01-15, far from any figure that the real clock could give. */
const WALL_AT_START_MS = 1_800_000_000_000

/** Thrown into synchronous code whose process has just died: it must not have another effect. */
export class Killed extends Error {}

/** A machine: what outlives the processes on it. */
export interface Host {
  name: string
  disk: Disk
  bootId: string
  bootedAtMs: number
  /** Its wall clock is ahead by so much. */
  clockSkewMs: number
}

export class SimProcess {
  state: 'running' | 'stopped' | 'dead' = 'running'
  /** Operations (disk, network, database) until it dies in the middle of one; null: it does not. */
  fuse: number | null = null
  readonly held: Entry[] = []

  constructor(
    readonly name: string,
    readonly host: Host,
  ) {}
}

interface Context {
  world: World
  process: SimProcess | null
}

export interface Entry {
  at: number
  n: number
  process: SimProcess | null
  /** Null: cancelled. */
  run: (() => void) | null
}

const contexts = new AsyncLocalStorage<Context>()

/** Null outside of every simulation. */
export function currentWorld(): World | null {
  return contexts.getStore()?.world ?? null
}

/** The process whose code runs. Throws Killed when it is dead by now. */
export function currentProcess(): SimProcess {
  const process = contexts.getStore()?.process
  if (!process) throw new Error('no simulated process runs this')
  if (process.state === 'dead') throw new Killed(process.name)
  return process
}

export class World {
  now = 0
  readonly random: Random
  readonly trace: Trace
  /** What went against the rules so far. */
  readonly violations: string[] = []
  private readonly queue: Entry[] = []
  private readonly deathWatch: ((process: SimProcess) => void)[] = []
  private readonly stopWatch: ((process: SimProcess) => void)[] = []
  private entries = 0

  constructor(
    readonly seed: number,
    verbose: boolean,
  ) {
    this.random = new Random(seed)
    this.trace = new Trace(verbose, () => this.now)
  }

  get process(): SimProcess | null {
    return contexts.getStore()?.process ?? null
  }

  wallMs(): number {
    return WALL_AT_START_MS + this.now + (this.process?.host.clockSkewMs ?? 0)
  }

  violate(message: string): void {
    this.trace.add('VIOLATION', message)
    this.violations.push(message)
  }

  /** Runs `run` in `ms`, in the process that asks, if it lives then. */
  after(ms: number, run: () => void, process: SimProcess | null = this.process): Entry {
    const entry = { at: this.now + Math.max(ms, 0), n: this.entries++, process, run }
    this.push(entry)
    return entry
  }

  /** Sleeps in virtual time. */
  pause(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve))
  }

  /** Runs code in a process, at once. */
  inside<T>(process: SimProcess | null, work: () => T): T {
    return contexts.run({ world: this, process }, work)
  }

  /** To be called by each operation that reaches outside of the process's memory: it may die right here. */
  operation(): SimProcess {
    const process = currentProcess()
    if (process.fuse !== null && process.fuse-- <= 0) {
      this.kill(process)
      throw new Killed(process.name)
    }
    return process
  }

  /**
   * For what answers later: the dead wait for ever. They must not be refused, for a loop that tries again whatever
   * happens would never come to an end.
   */
  operate<T>(begin: (resolve: (value: T) => void, reject: (error: unknown) => void) => void): Promise<T> {
    return new Promise((resolve, reject) => {
      try {
        this.operation()
        begin(resolve, reject)
      } catch (error) {
        if (!(error instanceof Killed)) reject(error)
      }
    })
  }

  kill(process: SimProcess): void {
    if (process.state === 'dead') return
    process.state = 'dead'
    this.trace.add('kill', process.name)
    for (const tell of this.deathWatch) tell(process)
  }

  /** As SIGSTOP: nothing of it goes on, its connections stay. */
  stop(process: SimProcess): void {
    if (process.state !== 'running') return
    process.state = 'stopped'
    this.trace.add('stop', process.name)
    for (const tell of this.stopWatch) tell(process)
  }

  continue(process: SimProcess): void {
    if (process.state !== 'stopped') return
    process.state = 'running'
    this.trace.add('continue', process.name)
    for (const entry of process.held.splice(0)) this.push({ ...entry, at: this.now, n: this.entries++ })
  }

  onDeath(tell: (process: SimProcess) => void): void {
    this.deathWatch.push(tell)
  }

  onStop(tell: (process: SimProcess) => void): void {
    this.stopWatch.push(tell)
  }

  /** Lets time go by until `done` or `untilMs`. */
  async run(done: () => boolean, untilMs: number): Promise<boolean> {
    await everyPromise()
    while (!done() && this.violations.length === 0) {
      const entry = this.pop()
      if (entry === undefined || entry.at > untilMs) {
        if (entry) this.push(entry)
        this.now = untilMs
        return false
      }
      if (entry.run === null || entry.process?.state === 'dead') continue
      this.now = entry.at
      if (entry.process?.state === 'stopped') {
        entry.process.held.push(entry)
        continue
      }
      this.inside(entry.process, () => this.perform(entry))
      await everyPromise()
    }
    return true
  }

  private perform({ run }: Entry): void {
    try {
      run!()
    } catch (error) {
      if (!(error instanceof Killed)) throw error
    }
  }

  private push(entry: Entry): void {
    const { queue } = this
    let at = queue.push(entry) - 1
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!isBefore(entry, queue[parent]!)) break
      queue[at] = queue[parent]!
      at = parent
    }
    queue[at] = entry
  }

  private pop(): Entry | undefined {
    const { queue } = this
    const first = queue[0]
    const last = queue.pop()
    if (last === undefined || queue.length === 0) return first
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= queue.length) break
      if (child + 1 < queue.length && isBefore(queue[child + 1]!, queue[child]!)) child++
      if (!isBefore(queue[child]!, last)) break
      queue[at] = queue[child]!
      at = child
    }
    queue[at] = last
    return first
  }
}

/** Resolves when every promise that can go on has gone on. */
function everyPromise(): Promise<void> {
  return new Promise((resolve) => nextTurn(resolve))
}

function isBefore(a: Entry, b: Entry): boolean {
  return a.at < b.at || (a.at === b.at && a.n < b.n)
}
