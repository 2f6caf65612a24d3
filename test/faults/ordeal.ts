/** A system under load, broken again and again, then left in peace until it is empty, then judged. */

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Database, openDatabase } from '#libs/event-store'
import { connect, type Messaging } from '#libs/messaging'
import { type System, startSystem } from '../../scripts/system/system.mjs'
import { check, type Report } from '../checker/check.js'
import { HistoryFile, readHistory } from '../checker/history.js'
import { judgeHost, takeInventory } from '../checker/host.js'
import { readLog } from '../checker/log.js'
import { judgeStreams } from '../checker/streams.js'
import { breakAt, CALAMITIES, type CrashPoint, type Timing } from './faults.js'
import { Load } from './load.js'

export interface OrdealOptions {
  seed: number
  clients: number
  /** Of a worker's lease, and so of what `stoppedMs` must be beyond. */
  leaseGraceMs: number
  timing: Timing
  /** Of a Postgres that somebody else starts, and breaks. */
  postgresUrl?: string
  say?: (line: string) => void
}

/** Heartbeats set right within seconds what a fault broke; the deadlines behind them (a start's is 5 minutes) are not waited for. */
const DRAIN_MS = 180_000

export class Ordeal {
  /** Places that no service came by. */
  readonly unreached: CrashPoint[] = []
  private load!: Load
  private before: string[] = []

  private constructor(
    readonly system: System,
    private readonly db: Database,
    private readonly messaging: Messaging,
    private readonly history: HistoryFile,
    private readonly options: OrdealOptions,
  ) {}

  static async begin(options: OrdealOptions): Promise<Ordeal> {
    const environment = { SANDTRAIL_LEASE_GRACE_MS: String(options.leaseGraceMs) }
    const { postgresUrl } = options
    const system = await startSystem({ environment, ...(postgresUrl !== undefined && { postgresUrl }) })
    try {
      const db = openDatabase({ url: system.env.DATABASE_ADMIN_URL!, max: 4, name: 'checker' })
      const messaging = await connect({
        servers: system.env.NATS_URL!,
        name: 'checker',
        credentials: JSON.parse(readFileSync(join(system.dir, 'keys', 'platform.json'), 'utf8')),
      })
      const history = new HistoryFile(join(system.dir, 'history.jsonl'))
      const ordeal = new Ordeal(system, db, messaging, history, options)
      await ordeal.warmUp()
      return ordeal
    } catch (error) {
      await system.stop()
      throw error
    }
  }

  async crash(point: CrashPoint): Promise<void> {
    const begun = performance.now()
    const reached = await breakAt(this.system, point, this.options.timing)
    if (!reached) this.unreached.push(point)
    this.say(`${point.service} ${point.name} ${point.action}`, begun, reached ? '' : 'NOT REACHED')
  }

  async suffer(calamity: string): Promise<void> {
    const begun = performance.now()
    await CALAMITIES[calamity]!(this.system, this.options.timing)
    this.say(calamity, begun)
  }

  /** Another misfortune than those of CALAMITIES. */
  async sufferFrom(what: string, misfortune: (system: System) => Promise<void>): Promise<void> {
    const begun = performance.now()
    await misfortune(this.system)
    this.say(what, begun)
  }

  /** Lets the load come to its end, and judges what is left when nothing goes on any more. */
  async judge(): Promise<Report> {
    await this.load.stop()
    await this.drain()
    await this.load.close()
    this.history.close()
    const { system, db, messaging } = this
    const workers = join(system.dir, 'workers')
    return check({
      db,
      messaging,
      history: readHistory(this.history.path),
      trail: {
        databaseUrl: system.env.DATABASE_ADMIN_URL!,
        trailFile: system.env.SANDTRAIL_TRAIL_FILE!,
        publicKey: readFileSync(system.env.SANDTRAIL_TRAIL_PUBLIC_KEY!, 'utf8').trim(),
      },
      spools: readdirSync(workers).map((worker) => join(workers, worker, 'spool')),
      host: { before: this.before, now: await takeInventory(system) },
      drained: true,
    })
  }

  get lives(): number {
    return this.load.lives
  }

  async end(): Promise<void> {
    await this.load?.close()
    await this.messaging.close()
    await this.db.end()
    await this.system.stop()
  }

  /**
   * What the first sandbox brings for all that follow belongs to the state before. The worker is started anew here and
   * before the judgement: a stop takes along what it holds ready for the next sandbox, such as spare networks.
   */
  private async warmUp(): Promise<void> {
    const { env } = this.system
    const { seed, clients, timing, leaseGraceMs } = this.options
    const patienceMs = 60_000 + timing.stoppedMs + leaseGraceMs
    this.load = await Load.open({ env, history: this.history, seed, clients, patienceMs })
    const { sandboxId = '' } = (await this.load.client.createSandbox({ network: 'open' })) ?? {}
    await this.load.client.exec(sandboxId, ['true'])
    await this.load.client.terminate(sandboxId)
    await this.drain()
    this.before = await takeInventory(this.system)
    this.load.begin()
  }

  /** Until every stream has come to its end and nothing on the host names a sandbox; what does not is for the checker. */
  private async drain(): Promise<void> {
    const begunMs = performance.now()
    for (;;) {
      const { open } = judgeStreams((await readLog(this.db)).events)
      const left = judgeHost(await takeInventory(this.system), new Set())
      if (open.size === 0 && left.length === 0) break
      if (performance.now() - begunMs > DRAIN_MS) {
        this.say(
          `not at rest: ${[...open.keys(), ...left.map(({ message }) => message)].join(', ')}`,
          begunMs,
        )
        break
      }
      for (const stream of open.keys()) if (stream.startsWith('sb-')) await this.load.client.terminate(stream)
      await delay(1_000)
    }
    await this.system.restart('worker-1')
  }

  private say(what: string, begunMs: number, note = ''): void {
    this.options.say?.(`${what}: ${Math.round((performance.now() - begunMs) / 100) / 10} s ${note}`.trim())
  }
}
