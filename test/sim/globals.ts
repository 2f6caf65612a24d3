/** Time and randomness of the global scope: the world's own for code that runs in one, Node's for everything else. */

import { currentWorld, type Entry, type World } from './world.js'

const TIMER_MS_MAX = 2 ** 31 - 1

class VirtualTimer {
  private entry: Entry | null = null

  constructor(
    private readonly world: World,
    private readonly work: () => void,
    private readonly ms: number,
    private readonly repeats: boolean,
  ) {
    this.refresh()
  }

  refresh(): this {
    this.close()
    this.entry = this.world.after(this.ms, () => {
      this.entry = null
      if (this.repeats) this.refresh()
      this.work()
    })
    return this
  }

  close(): this {
    if (this.entry) this.entry.run = null
    this.entry = null
    return this
  }

  ref(): this {
    return this
  }

  unref(): this {
    return this
  }

  hasRef(): boolean {
    return true
  }
}

type Callback = (...args: unknown[]) => void

export function installGlobals(): void {
  const real = {
    setTimeout,
    clearTimeout,
    setInterval,
    clearInterval,
    setImmediate,
    Date,
    random: Math.random,
  }
  const start =
    (repeats: boolean, fallback: (...args: never[]) => unknown) =>
    (work: Callback, ms?: number, ...args: unknown[]) => {
      const world = currentWorld()
      if (world === null) return (fallback as Callback)(work, ms, ...args)
      // As Node: what is no sensible delay is 1 ms.
      const delay = ms !== undefined && ms >= 1 && ms <= TIMER_MS_MAX ? ms : 1
      return new VirtualTimer(world, () => work(...args), delay, repeats)
    }
  const stop = (fallback: (timer: never) => void) => (timer: unknown) => {
    if (timer instanceof VirtualTimer) timer.close()
    else fallback(timer as never)
  }
  const now = () => currentWorld()?.wallMs() ?? real.Date.now()

  class VirtualDate extends real.Date {
    constructor(...args: [] | [number]) {
      if (args.length === 0) super(now())
      else super(...args)
    }

    static override now(): number {
      return Math.floor(now())
    }
  }
  const monotonic = performance.now.bind(performance)
  Object.assign(globalThis, {
    setTimeout: start(false, real.setTimeout),
    setInterval: start(true, real.setInterval),
    clearTimeout: stop(real.clearTimeout),
    clearInterval: stop(real.clearInterval),
    Date: VirtualDate,
  })
  Math.random = () => currentWorld()?.random.next() ?? real.random()
  const elapsed = process.hrtime
  const hrtime = (since?: [number, number]): [number, number] => {
    const world = currentWorld()
    if (world === null) return elapsed(since)
    const ms = world.now - (since ? since[0] * 1e3 + since[1] / 1e6 : 0)
    return [Math.floor(ms / 1e3), Math.round((ms % 1e3) * 1e6)]
  }
  process.hrtime = Object.assign(hrtime, { bigint: elapsed.bigint })
  Object.defineProperty(performance, 'now', { value: () => currentWorld()?.now ?? monotonic() })
}
