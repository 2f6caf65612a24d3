/** Removes what is kept for a time only: output of ended execs, tombstones. Once at the start, then every hour. */

import type { Log } from '#libs/service'
import type { Sandboxes } from './sandboxes/registry.js'
import type { Spool } from './spool/spool.js'

const EVERY_MS = 3_600_000

export interface Tidied {
  /** Whose output went, or would go. */
  execs: number
  bytes: number
  tombstones: number
}

export class Janitor {
  private timer: NodeJS.Timeout | undefined

  constructor(private readonly context: { spool: Spool; sandboxes: Sandboxes; log: Log }) {}

  start(): void {
    const tidy = () =>
      this.tidy(false).catch((err) => {
        this.context.log.warn({ err }, 'old output was not removed, tried again in an hour')
      })
    void tidy()
    this.timer = setInterval(tidy, EVERY_MS)
  }

  stop(): void {
    clearInterval(this.timer)
  }

  /** @param dryRun nothing is removed, only counted */
  async tidy(dryRun: boolean): Promise<Tidied> {
    const { sandboxes, spool } = this.context
    const now = Date.now()
    return { tombstones: sandboxes.removeOldTombstones(now, dryRun), ...(await spool.removeOld(now, dryRun)) }
  }
}
