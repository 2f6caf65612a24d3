/**
 * Counts refused calls and writes the counts every few seconds: a flood of them is one row, not one each, and costs its
 * caller's tenant nothing else.
 */

import type { Database, Refusal } from '#libs/event-store'
import { insertRefusals } from '#libs/event-store'

/** A crash loses the counts of at most so long; an auditor sees a refusal after so long. */
const FLUSH_MS = 5_000
/** Different callers and reasons within one flush; more are counted together, without their names. */
const KEYS_MAX = 1_000

export type Refused = Pick<Refusal, 'tenant' | 'actor' | 'code' | 'action' | 'detail'>

interface Log {
  warn(fields: object, message: string): void
}

export class RefusalLog {
  private counts = new Map<string, Refusal>()
  private timer: NodeJS.Timeout | undefined
  private writing: Promise<void> = Promise.resolve()

  constructor(
    private readonly db: Database,
    private readonly service: string,
    private readonly log: Log,
  ) {}

  start(): void {
    this.timer ??= setInterval(() => void this.flush(), FLUSH_MS)
  }

  /** Writes what is counted. Safe to call twice. */
  async stop(): Promise<void> {
    clearInterval(this.timer)
    this.timer = undefined
    await this.flush()
  }

  add(refused: Refused): void {
    const key = JSON.stringify([refused.tenant, refused.actor, refused.code, refused.action, refused.detail])
    const at = new Date()
    const known = this.counts.get(key)
    if (known !== undefined) {
      known.count += 1
      known.lastAt = at
    } else if (this.counts.size < KEYS_MAX || refused.action === OTHERS) {
      this.counts.set(key, { service: this.service, ...refused, count: 1, firstAt: at, lastAt: at })
    } else {
      this.add({ tenant: null, actor: null, code: refused.code, action: OTHERS, detail: null })
    }
  }

  /** Resolves when all that was counted before is written, or could not be: then it stays for the next time. */
  flush(): Promise<void> {
    this.writing = this.writing.then(() => this.write())
    return this.writing
  }

  private async write(): Promise<void> {
    if (this.counts.size === 0) return
    const counts = this.counts
    this.counts = new Map()
    try {
      await insertRefusals(this.db, [...counts.values()])
    } catch (err) {
      for (const [key, old] of counts) {
        const newer = this.counts.get(key)
        if (newer === undefined) this.counts.set(key, old)
        else Object.assign(newer, { count: newer.count + old.count, firstAt: old.firstAt })
      }
      this.log.warn({ err }, 'refusals could not be written, they are kept')
    }
  }
}

const OTHERS = '(others)'
