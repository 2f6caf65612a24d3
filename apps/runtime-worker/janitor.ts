/** Removes what is kept for a time only: output of ended execs, tombstones. Once at the start, then every hour. */

import type { Log } from '#libs/service'
import type { Sandboxes } from './sandboxes/registry.js'
import type { Spool } from './spool/spool.js'

const EVERY_MS = 3_600_000

export function startJanitor({ spool, sandboxes, log }: { spool: Spool; sandboxes: Sandboxes; log: Log }) {
  const tidy = async () => {
    try {
      sandboxes.removeOldTombstones()
      await spool.removeOld(Date.now())
    } catch (err) {
      log.warn({ err }, 'old output was not removed, tried again in an hour')
    }
  }
  void tidy()
  const timer = setInterval(tidy, EVERY_MS)
  return { stop: () => clearInterval(timer) }
}
