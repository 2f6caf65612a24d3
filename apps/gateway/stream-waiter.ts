/**
 * Waits until a stream has an event of certain types. A wait is woken by the nudge that every committing service
 * sends, before the ledger has the event; a slow poll stands behind it, for nudges are not kept.
 *
 * One query serves all waits, at most one runs at a time: a thousand waiters cost one query per round.
 */

import type { Database } from '#libs/event-store'
import type { Log } from '#libs/service'

/** A fallback for lost nudges. */
const POLL_MS = 2_000

const FIND_AWAITED = `
  select stream, type, max(version) as version
  from events
  where stream = any($1) and type = any($2)
  group by stream, type
`

interface Wait {
  stream: string
  types: ReadonlySet<string>
  afterVersion: number
  resolve(found: boolean): void
}

export class StreamWaiter {
  private readonly waits = new Set<Wait>()
  private timer: NodeJS.Timeout | null = null
  private polling = false
  private again = false
  private stopped = false

  constructor(
    private readonly db: Database,
    private readonly log: Log,
  ) {}

  /** Something was committed somewhere. */
  nudge(): void {
    if (this.waits.size > 0) void this.poll()
  }

  /**
   * True once `stream` has an event of one of `types`, newer than `afterVersion` (0); false when `timeoutMs` passed
   * or `signal` fired before.
   */
  async until(
    stream: string,
    types: readonly string[],
    {
      timeoutMs,
      signal,
      afterVersion = 0,
    }: { timeoutMs: number; signal?: AbortSignal; afterVersion?: number },
  ): Promise<boolean> {
    if (signal?.aborted || this.stopped) return false
    const { promise, resolve } = Promise.withResolvers<boolean>()
    const wait: Wait = { stream, types: new Set(types), afterVersion, resolve }
    const giveUp = () => resolve(false)
    const timeout = setTimeout(giveUp, timeoutMs)
    signal?.addEventListener('abort', giveUp)
    this.waits.add(wait)
    this.timer ??= setInterval(() => void this.poll(), POLL_MS)
    void this.poll()
    try {
      return await promise
    } finally {
      clearTimeout(timeout)
      signal?.removeEventListener('abort', giveUp)
      this.waits.delete(wait)
      if (this.waits.size === 0) this.stopPolling()
    }
  }

  /** Ends all waits as if their time were up, those to come too. */
  stop(): void {
    this.stopped = true
    for (const wait of this.waits) wait.resolve(false)
    this.stopPolling()
  }

  private stopPolling(): void {
    if (this.timer !== null) clearInterval(this.timer)
    this.timer = null
  }

  private async poll(): Promise<void> {
    // What is committed while a query runs may be after its snapshot: look once more.
    this.again = true
    if (this.polling) return
    this.polling = true
    try {
      while (this.again && this.waits.size > 0) {
        this.again = false
        await this.look()
      }
    } catch (error) {
      // The next nudge or poll tries again; the waits have their own limits.
      this.log.warn({ err: error }, 'cannot look for awaited events')
    } finally {
      this.polling = false
    }
  }

  private async look(): Promise<void> {
    const waits = [...this.waits]
    const streams = [...new Set(waits.map(({ stream }) => stream))]
    const types = [...new Set(waits.flatMap((wait) => [...wait.types]))]
    const { rows } = await this.db.query<{ stream: string; type: string; version: number }>({
      name: 'find-awaited',
      text: FIND_AWAITED,
      values: [streams, types],
    })
    const found = Map.groupBy(rows, ({ stream }) => stream)
    for (const wait of waits) {
      const events = found.get(wait.stream) ?? []
      if (events.some(({ type, version }) => wait.types.has(type) && version > wait.afterVersion)) {
        wait.resolve(true)
      }
    }
  }
}
