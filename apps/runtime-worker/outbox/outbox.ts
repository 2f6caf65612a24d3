/**
 * Sends each sandbox's facts to the control plane, first in first out, until they are accepted or fenced. Facts wait
 * in the sandbox's journal, so nothing is lost while the control plane, or this process, is away.
 */

import { setTimeout as delay } from 'node:timers/promises'
import { type Fact, type Report, type ReportReply, withoutTexts } from '#libs/contract'
import type { SandboxId } from '#libs/domain'
import { failpoint } from '#libs/failpoint'
import type { Log } from '#libs/service'
import type { FactBody, Journal } from '../sandboxes/journal.js'

const FACTS_MAX = 100
const REPORT_BYTES_MAX = 256 * 1024
const BACKOFF_MS_MIN = 100
const BACKOFF_MS_MAX = 5_000
/**
 * A start waits so long for its exec's end: most execs are short, and one report is cheaper than two. The first exec of a
 * sandbox takes 20 ms.
 */
const LINGER_MS = 40

export interface FactSource {
  tenant: string
  sandboxId: SandboxId
  epoch: number
  journal: Journal
  /** The control plane has ended this epoch. */
  onFenced(): void
}

export class Outbox {
  private readonly draining = new Map<FactSource, Promise<void>>()
  private readonly lingering = new Map<FactSource, NodeJS.Timeout>()
  private readonly stopping = new AbortController()

  constructor(
    private readonly send: (report: Report) => Promise<ReportReply>,
    private readonly log: Log,
  ) {}

  /** Takes over the journal's facts, those that an earlier process left included. */
  attach(source: FactSource): void {
    source.journal.listen((bodies) => this.onFacts(source, bodies))
    if (source.journal.state.facts.length > 0) this.kick(source)
  }

  /** True when nothing of this source is left to send; false when this process stops before that. */
  async drained(source: FactSource): Promise<boolean> {
    while (source.journal.state.facts.length > 0) {
      if (this.stopping.signal.aborted) return false
      await this.kick(source)
    }
    return true
  }

  async stop(): Promise<void> {
    this.stopping.abort()
    for (const timer of this.lingering.values()) clearTimeout(timer)
    await Promise.all(this.draining.values())
  }

  private onFacts(source: FactSource, bodies: readonly FactBody[]): void {
    if (bodies.some(({ kind }) => kind !== 'exec-started')) {
      this.kick(source)
    } else if (!this.lingering.has(source)) {
      this.lingering.set(
        source,
        setTimeout(() => this.kick(source), LINGER_MS),
      )
    }
  }

  private kick(source: FactSource): Promise<void> {
    clearTimeout(this.lingering.get(source))
    this.lingering.delete(source)
    let running = this.draining.get(source)
    if (running === undefined) {
      running = this.drain(source).finally(() => this.onDrained(source))
      this.draining.set(source, running)
    }
    return running
  }

  private onDrained(source: FactSource): void {
    this.draining.delete(source)
    // A fact may have come after the loop's last look.
    if (source.journal.state.facts.length > 0 && !this.stopping.signal.aborted) void this.kick(source)
  }

  private async drain(source: FactSource): Promise<void> {
    const { journal } = source
    // The entry that made us run may have company in this very turn.
    await Promise.resolve()
    for (let failures = 0; journal.state.facts.length > 0 && !this.stopping.signal.aborted; ) {
      if (await this.sendSome(source, failures === 0)) failures = 0
      else await this.backOff(++failures)
    }
  }

  /** True when the control plane took something. */
  private async sendSome(source: FactSource, isFirstTry: boolean): Promise<boolean> {
    const { sandboxId, journal } = source
    try {
      const facts = firstFew(journal.state.facts)
      const [first] = facts
      if (first === undefined) return true
      const synced = journal.sync()
      synced.catch(() => {}) // Heard below, also when the report fails first.
      if (facts.some(endsSandbox)) await synced
      failpoint('report-before-send')
      const sent = this.sendFacts(source, facts).catch((err) => {
        if (!isRefusal(err)) throw err
        // One fact that is refused for good would hold up all that follow, the sandbox's end among them.
        this.log.error(
          { sandboxId, fact: first, err },
          'report refused, its first fact is told without its texts',
        )
        return this.sendFacts(source, [withoutTexts(first)])
      })
      await Promise.all([sent, synced])
      return true
    } catch (error) {
      // Once per outage: a control plane may be away for long, and every sandbox has facts to tell.
      if (isFirstTry) this.log.warn({ sandboxId, err: error }, 'report not accepted, will be sent again')
      return false
    }
  }

  private async sendFacts(source: FactSource, facts: Fact[]): Promise<void> {
    const { tenant, sandboxId, epoch, journal } = source
    const { acceptedTo, fenced } = await this.send({ tenant, sandboxId, epoch, facts })
    failpoint('report-accepted')
    if (fenced) return this.fence(source)
    if (!(acceptedTo >= facts[0]!.factSeq))
      throw new Error(`the report was accepted only up to ${acceptedTo}`)
    // One that is forgotten is told again, and has no second effect.
    journal.appendLater({ kind: 'accepted', to: acceptedTo })
  }

  private fence(source: FactSource): void {
    this.log.warn(
      { sandboxId: source.sandboxId, epoch: source.epoch },
      'epoch is fenced, its facts are dropped',
    )
    source.journal.append({ kind: 'fenced' })
    source.onFenced()
  }

  private async backOff(failures: number): Promise<void> {
    const ms = Math.min(BACKOFF_MS_MIN * 2 ** (failures - 1), BACKOFF_MS_MAX)
    await delay(ms * (0.5 + Math.random() / 2), undefined, { signal: this.stopping.signal }).catch(() => {})
  }
}

/**
 * What was staged and undone must be known here after a power cut, before anyone hears of it. A start or an exec must
 * not: the cut ends the sandbox, and what the log has of it counts, whatever is told later.
 */
function endsSandbox({ kind }: Fact): boolean {
  return kind === 'sandbox-ended' || kind === 'sandbox-cleaned-up'
}

/** Refused for what is in it: sent as it is, it is refused for ever. */
function isRefusal(error: unknown): boolean {
  const { code } = error as { code?: string }
  return code === 'INVALID_ARGUMENT' || code === 'PAYLOAD_TOO_LARGE'
}

/** As many of the oldest as fit into one report; at least one. */
export function firstFew(facts: readonly Fact[]): Fact[] {
  let bytes = 0
  const fitting = facts.slice(0, FACTS_MAX).findIndex((fact) => {
    bytes += JSON.stringify(fact).length
    return bytes > REPORT_BYTES_MAX
  })
  return facts.slice(0, fitting === -1 ? FACTS_MAX : Math.max(fitting, 1))
}
