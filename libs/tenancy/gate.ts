/**
 * Whether a tenant may call once more, now. Each process counts for itself: with two schedulers a tenant gets up to twice
 * its rate of commands. What must be exact (sandboxes, execs, memory) is counted by the append, not here.
 */

import {
  type Bucket,
  fullBucket,
  Rejected,
  SandtrailError,
  TENANT_RATES_DEFAULT,
  type TenantRates,
  takeToken,
} from '#libs/domain'
import { type Database, findTenantRates, listSuspended } from '#libs/event-store'
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
  /** @throws Rejected TENANT_SUSPENDED; SandtrailError RESOURCE_EXHAUSTED with `retryAfterMs`; counted for the audit */
  admit(rate: Rate, caller: Caller): Promise<void>
  /**
   * Until what it returns is called, the call counts as open; `cut` is called when its tenant is suspended meanwhile.
   * @throws SandtrailError RESOURCE_EXHAUSTED, counted
   */
  hold(caller: Caller, cut: () => void): () => void
  /** Counts a call that was refused elsewhere. */
  refused(refused: Refused): void
}

/** A suspension holds for what does not ask the database by itself after so long at the latest. */
const LOOK_MS = 500

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
  /** What to call when it is to end, by tenant. */
  private readonly open = new Map<string, Set<() => void>>()
  private suspended: ReadonlySet<string> = new Set()
  private timer: NodeJS.Timeout | undefined
  private looking: Promise<void> | null = null
  private readonly refusals: RefusalLog

  constructor(
    private readonly db: Database,
    service: string,
    private readonly log: { warn(fields: object, message: string): void },
    private readonly openMax = OPEN_MAX,
  ) {
    this.refusals = new RefusalLog(db, service, log)
  }

  /** Resolves when it is known who is suspended. */
  async start(): Promise<void> {
    this.refusals.start()
    this.timer ??= setInterval(() => void this.look(), LOOK_MS)
    await this.look()
  }

  /** Writes what was refused. Before the database is closed. */
  async stop(): Promise<void> {
    clearInterval(this.timer)
    this.timer = undefined
    await this.looking
    await this.refusals.stop()
  }

  async admit(rate: Rate, caller: Caller): Promise<void> {
    // What a service does by itself goes on: it ends what a suspended tenant has.
    const isOurs = caller.actor.startsWith('system:')
    if (!isOurs && this.suspended.has(caller.tenant)) throw this.suspendedNow(caller)
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

  /** The refusal to throw; it is counted. */
  suspendedNow(caller: Caller): Rejected {
    this.refused({ ...caller, code: 'TENANT_SUSPENDED', detail: null })
    return new Rejected('TENANT_SUSPENDED', 'an operator has suspended the tenant, or removed it', {
      hint: 'ask an operator (`sandtrail tenant resume`)',
    })
  }

  hold(caller: Caller, cut: () => void): () => void {
    const { tenant } = caller
    const open = this.open.get(tenant) ?? new Set()
    if (open.size >= this.openMax) {
      this.refused({ ...caller, code: 'RESOURCE_EXHAUSTED', detail: 'open' })
      throw new SandtrailError('RESOURCE_EXHAUSTED', `the tenant has ${open.size} requests open already`, {
        hint: 'end some of the streams and waits that are open',
        retryAfterMs: 1_000,
      })
    }
    const held = () => cut()
    this.open.set(tenant, open.add(held))
    return () => {
      open.delete(held)
      if (open.size === 0) this.open.delete(tenant)
    }
  }

  refused(refused: Refused): void {
    const { tenant, actor, code, action, detail } = refused
    this.refusals.add({ tenant, actor, code, action, detail })
  }

  /** Never rejects: who was suspended stays so for as long as it takes. */
  private look(): Promise<void> {
    this.looking ??= this.readSuspended().finally(() => {
      this.looking = null
    })
    return this.looking
  }

  private async readSuspended(): Promise<void> {
    try {
      this.suspended = await listSuspended(this.db)
    } catch (err) {
      this.log.warn({ err }, 'the suspended tenants could not be read')
      return
    }
    for (const tenant of this.suspended) {
      for (const cut of [...(this.open.get(tenant) ?? [])]) cut()
    }
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
