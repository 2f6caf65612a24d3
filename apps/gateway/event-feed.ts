/** The ledger as a feed: pages of events after a position, and waiting for the next ones. */

import { type Page, type RecordedEvent, readPage } from '#libs/event-store'
import type { Gateway } from './gateway.js'

export interface FeedFilter {
  tenant: string
  /** Exact names; undefined: all. */
  types: string[] | undefined
  since: Date | undefined
}

/** A fallback for lost wake-ups. */
const POLL_MS = 2_000

export function readFeed({ db }: Gateway, filter: FeedFilter, after: bigint, limit: number): Promise<Page> {
  const { tenant, types, since } = filter
  return readPage(db, {
    afterPosition: after,
    limit,
    tenant,
    ...(types === undefined ? {} : { types }),
    ...(since === undefined ? {} : { since }),
  })
}

/** Hands each event over in order of position, from `after` on, until `signal` fires. `null`: nothing came for a while. */
export async function* followFeed(
  gateway: Gateway,
  filter: FeedFilter,
  after: bigint,
  signal: AbortSignal,
): AsyncGenerator<RecordedEvent | null> {
  const news = new News()
  const stop = () => news.tell()
  signal.addEventListener('abort', stop)
  const published = gateway.messaging.subscribe(`v1.${filter.tenant}.evt.>`, () => news.tell())
  try {
    let position = after
    while (!signal.aborted) {
      const { events, next } = await readFeed(gateway, filter, position, 500)
      yield* events
      position = next
      if (events.length > 0) continue
      await news.wait(POLL_MS)
      yield null
    }
  } finally {
    signal.removeEventListener('abort', stop)
    published.close()
  }
}

/** Remembers that it was told while nobody waited. */
class News {
  private told = false
  private wake: (() => void) | null = null

  tell(): void {
    this.told = true
    this.wake?.()
  }

  async wait(timeoutMs: number): Promise<void> {
    if (!this.told) {
      const { promise, resolve } = Promise.withResolvers<void>()
      const timer = setTimeout(resolve, timeoutMs)
      this.wake = resolve
      await promise
      clearTimeout(timer)
      this.wake = null
    }
    this.told = false
  }
}
