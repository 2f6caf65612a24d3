/**
 * Cuts of the power. The log of a whole system is in a guest whose disk loses what was not flushed; everything else of
 * the system dies with it, by SIGKILL, and the broker loses its store. Clients outside use it all the while and write
 * down what it promises them. When all is back and at rest, the checker judges.
 *
 * Beside it two databases get the same appends by the product's code, one on the system's own server, one on a second
 * whose clients do not wait for the disk (`synchronous_commit=off`). That is the control: every cut must cost it
 * something, or the rig is not one.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { System } from '../../scripts/system/system.mjs'
import type { Report } from '../checker/check.js'
import { killAndStart } from '../faults/faults.js'
import { Ordeal } from '../faults/ordeal.js'
import { Random } from '../faults/random.js'
import { BareLoad, type Loss } from './bare-load.js'
import { GuestPostgres, query } from './guest-postgres.js'

export interface PowerCutOptions {
  seed: number
  say: (line: string) => void
}

const CLIENTS = 2
/** A client asks again until the guest has booted, on a busy machine too. */
const OUTAGE_MS_MAX = 180_000
/** Above the pauses of a server whose machine code is interpreted, on a busy machine. */
const LEASE_GRACE_MS = 15_000

export class PowerCut {
  private constructor(
    private readonly home: string,
    private readonly postgres: GuestPostgres,
    private readonly ordeal: Ordeal,
    private readonly options: PowerCutOptions,
  ) {}

  static async begin(options: PowerCutOptions): Promise<PowerCut> {
    const { seed, say } = options
    const home = mkdtempSync(join(tmpdir(), 'sandtrail-power-'))
    let postgres: GuestPostgres | undefined
    try {
      postgres = await GuestPostgres.make(home, new Random(seed))
      say(`power cut: the guest is up in ${seconds(await postgres.boot())}`)
      for (const server of ['main', 'control'] as const) {
        await query(postgres.url(server, 'postgres'), 'create database bare')
      }
      const ordeal = await Ordeal.begin({
        seed,
        clients: CLIENTS,
        leaseGraceMs: LEASE_GRACE_MS,
        timing: { stoppedMs: OUTAGE_MS_MAX, hungMs: 0, reachedMs: 0 },
        postgresUrl: postgres.url('main', 'postgres'),
        say,
      })
      return new PowerCut(home, postgres, ordeal, options)
    } catch (error) {
      await postgres?.end()
      rmSync(home, { recursive: true, force: true })
      throw error
    }
  }

  /** Appends to both bare databases, beside the load of the system; after `ms` of that the cut; all is back. */
  async cutAfter(ms: number): Promise<Record<'on' | 'off', Loss>> {
    const on = new BareLoad(this.postgres.url('main', 'bare'), 'on')
    const off = new BareLoad(this.postgres.url('control', 'bare'), 'off')
    await Promise.all([on.warm(), off.warm()])
    await delay(ms)
    await this.ordeal.sufferFrom('a cut of the power', (system) => this.cut(system, [on, off]))
    const losses = { on: await on.judge(), off: await off.judge() }
    const tell = ({ acknowledged, lost }: Loss) => `${lost} of ${acknowledged} acknowledged appends lost`
    this.options.say(
      `power cut: synchronous_commit=on: ${tell(losses.on)}; off, the control: ${tell(losses.off)}`,
    )
    return losses
  }

  judge(): Promise<Report> {
    return this.ordeal.judge()
  }

  get lives(): number {
    return this.ordeal.lives
  }

  async end(): Promise<void> {
    await this.ordeal.end()
    await this.postgres.end()
    rmSync(this.home, { recursive: true, force: true })
  }

  private async cut(system: System, loads: readonly BareLoad[]): Promise<void> {
    // The log first, at the height of its work; the services a moment later, while they wait for it.
    const { writes, flushes, lost, kept } = await this.postgres.cut()
    await killAndStart(
      system,
      system.services().map(({ name }) => name),
      async () => {
        rmSync(join(system.dir, 'nats', 'store'), { recursive: true, force: true })
        for (const load of loads) await load.stop()
        const bootMs = await this.postgres.boot()
        this.options.say(
          `power cut: ${writes} writes and ${flushes} flushes so far; of what was not flushed ${lost} blocks are lost, ` +
            `${kept} are not; up again in ${seconds(bootMs)}`,
        )
      },
    )
  }
}

const seconds = (ms: number) => `${Math.round(ms / 100) / 10} s`
