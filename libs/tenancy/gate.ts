/**
 * Whether a tenant may call once more, now. Each process counts for itself: with two schedulers a tenant gets up to twice
 * its rate of commands. What must be exact (sandboxes, execs, memory) is counted by the append, not here.
 */

import {
  type Bucket,
  fullBucket,
  SandtrailError,
  TENANT_RATES_DEFAULT,
  type TenantRates,
  takeToken,
} from '#libs/domain'
import { type Database, findTenantRates } from '#libs/event-store'
import { RefusalLog, type Refused } from './refusal-log.js'

/** Who calls, and what: for the audit. */
export interface Caller {
  tenant: string
  /** `token:<id>` or `nats:<tenant>`. */
  actor: string
  /** The route or the command. */
  action: string
}

/** Open at a time by one tenant, in one gateway: each may be a stream or a wait that asks the database now and then. */
const OPEN_MAX = 4_096

export type Rate = 'commands' | 'requests'

/** What a service needs of the gate. */
export interface Gate {
  /** @throws SandtrailError RESOURCE_EXHAUSTED with `retryAfterMs`, counted for the audit */
  admit(rate: Rate, caller: Caller): Promise<void>
  /** Until what it returns is called, the call counts as open. @throws SandtrailError RESOURCE_EXHAUSTED, counted */
  hold(caller: Caller): () => void
  /** Counts a call that was refused elsewhere. */
  refused(refused: Refused): void
}

/** A changed limit holds after so long at the latest. */
const FRESH_MS = 5_000

interface Known {
  rates: TenantRates
  readAtMs: number
  buckets: Partial<Record<Rate, Bucket>>
  /** While it is read anew; callers go on with what is known. */
  reading: Promise<void> | null
}

export class TenantGate implements Gate {
  private readonly tenants = new Map<string, Known>()
  private readonly open = new Map<string, number>()
  private readonly refusals: RefusalLog

  constructor(
    private readonly db: Database,
    service: string,
    private readonly log: { warn(fields: object, message: string): void },
    private readonly openMax = OPEN_MAX,
  ) {
    this.refusals = new RefusalLog(db, service, log)
  }

  start(): void {
    this.refusals.start()
  }

  /** Writes what was refused. Before the database is closed. */
  async stop(): Promise<void> {
    await this.refusals.stop()
  }

  async admit(rate: Rate, caller: Caller): Promise<void> {
    const known = await this.know(caller.tenant)
    const perSecond = known.rates[`${rate}PerSecond`]
    if (perSecond === null) return
    const burst = known.rates[`${rate}Burst`]
    const nowMs = performance.now()
    const taken = takeToken(known.buckets[rate] ?? fullBucket(burst, nowMs), { perSecond, burst }, nowMs)
    known.buckets[rate] = taken.bucket
    const { retryAfterMs } = taken
    if (retryAfterMs === null) return
    this.refused({ ...caller, code: 'RESOURCE_EXHAUSTED', detail: rate })
    throw new SandtrailError(
      'RESOURCE_EXHAUSTED',
      `the tenant may send ${perSecond} ${rate} a second, ${burst} at once`,
      { hint: 'send fewer, or ask an operator to raise it (`sandtrail tenant set`)', retryAfterMs },
    )
  }

  hold(caller: Caller): () => void {
    const { tenant } = caller
    const open = this.open.get(tenant) ?? 0
    if (open >= this.openMax) {
      this.refused({ ...caller, code: 'RESOURCE_EXHAUSTED', detail: 'open' })
      throw new SandtrailError('RESOURCE_EXHAUSTED', `the tenant has ${open} requests open already`, {
        hint: 'end some of the streams and waits that are open',
        retryAfterMs: 1_000,
      })
    }
    this.open.set(tenant, open + 1)
    return () => {
      const left = (this.open.get(tenant) ?? 1) - 1
      if (left > 0) this.open.set(tenant, left)
      else this.open.delete(tenant)
    }
  }

  refused(refused: Refused): void {
    const { tenant, actor, code, action, detail } = refused
    this.refusals.add({ tenant, actor, code, action, detail })
  }

  private async know(tenant: string): Promise<Known> {
    let known = this.tenants.get(tenant)
    if (known === undefined) {
      known = { rates: TENANT_RATES_DEFAULT, readAtMs: Number.NEGATIVE_INFINITY, buckets: {}, reading: null }
      this.tenants.set(tenant, known)
    }
    if (performance.now() - known.readAtMs > FRESH_MS) known.reading ??= this.read(tenant, known)
    // The first time its limits are waited for; later the old ones are good for as long as it takes.
    if (known.readAtMs === Number.NEGATIVE_INFINITY) await known.reading
    return known
  }

  /** Never rejects: without the database nothing is accepted anyway, and reads fail by themselves. */
  private async read(tenant: string, known: Known): Promise<void> {
    try {
      known.rates = (await findTenantRates(this.db, tenant)) ?? TENANT_RATES_DEFAULT
    } catch (err) {
      this.log.warn({ err, tenant }, "the tenant's rates could not be read")
    }
    known.readAtMs = performance.now()
    known.reading = null
  }
}
