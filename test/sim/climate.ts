/**
 * What goes wrong in a run. Each run draws its own mix (swarm testing): some have one kind of trouble and a lot of it,
 * some have none, so that rare combinations are not drowned by common ones.
 */

import type { BrokerWeather } from './broker.js'
import type { Weather } from './postgres/server.js'
import type { Random } from './random.js'
import type { RuntimeWeather } from './runtime.js'

export const SUDDEN = [
  'kill-scheduler',
  'kill-worker',
  'stop-scheduler',
  'stop-worker',
  'cut-off-scheduler',
  'cut-off-worker',
  'broker-away',
  'broker-wiped',
  'database-restart',
  'database-away',
  'power-cut',
  'guest-dies',
  'guest-silent',
  'clock-jumps',
] as const
/** What the worker's journal is there for. */
const OF_INTEREST = new Set<Sudden>(['kill-worker', 'power-cut'])
export type Sudden = (typeof SUDDEN)[number]

export class Climate {
  /** Nothing goes wrong any more. */
  isCalm = false
  databaseIsAway = false
  readonly sudden: Sudden[]
  /** Between two sudden faults, on average. */
  readonly everyMs: number
  private readonly p: Record<
    'lost' | 'doubled' | 'late' | 'slowDb' | 'broken' | 'uncreated' | 'left' | 'deaf',
    number
  >

  constructor(private readonly random: Random) {
    const often = (most: number) => (random.chance(0.5) ? random.next() * most : 0)
    this.p = {
      lost: often(0.1),
      doubled: often(0.2),
      late: often(0.3),
      slowDb: often(0.5),
      broken: often(0.03),
      uncreated: often(0.3),
      left: often(0.3),
      deaf: often(0.15),
    }
    // Often one or two kinds alone, and then many of them.
    const each = random.pick([0.08, 0.2, 0.5])
    this.sudden = SUDDEN.filter((kind) => random.chance(OF_INTEREST.has(kind) ? 2 * each : each))
    this.everyMs = random.between(600, 5_000)
  }

  readonly database: Weather = {
    latencyMs: () => {
      if (!this.chance(this.p.slowDb)) return 0
      return this.random.chance(0.02) ? this.random.between(100, 3_000) : this.random.between(0, 8)
    },
    fate: (statement) => {
      // The commit is where it matters most.
      if (!this.chance(/^commit$|append_commands/.test(statement) ? this.p.broken : this.p.broken / 20))
        return null
      return this.random.pick(['break-before', 'break-after'])
    },
    isAway: () => this.databaseIsAway,
  }

  readonly broker: BrokerWeather = {
    latencyMs: () => {
      if (!this.chance(this.p.late)) return this.random.between(0.2, 2)
      return this.random.chance(0.1) ? this.random.between(1_000, 9_000) : this.random.between(2, 300)
    },
    loses: () => this.chance(this.p.lost),
    doubles: () => this.chance(this.p.doubled),
  }

  readonly runtime: RuntimeWeather = {
    createMs: () => {
      if (!this.chance(this.p.late)) return this.random.between(20, 300)
      return this.random.chance(0.1) ? this.random.between(5_000, 90_000) : this.random.between(300, 5_000)
    },
    failsToCreate: () => this.chance(this.p.uncreated),
    leavesSomething: () => this.chance(this.p.left),
    losesAnswer: () => this.chance(this.p.deaf),
    agentMs: () => (this.chance(this.p.late) ? this.random.between(1, 400) : this.random.between(0.1, 3)),
  }

  private chance(probability: number): boolean {
    return !this.isCalm && probability > 0 && this.random.chance(probability)
  }
}
