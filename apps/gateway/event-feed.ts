/** The ledger as a feed: pages of events after a position, and waiting for the next ones. */

import {
  EXEC_TRANSITIONS,
  IMAGE_TRANSITIONS,
  Rejected,
  SANDBOX_TRANSITIONS,
  SNAPSHOT_TRANSITIONS,
  VOLUME_TRANSITIONS,
} from '#libs/domain'
import { type RecordedEvent, readAll } from '#libs/event-store'
import type { Gateway } from './gateway.js'

export interface FeedFilter {
  tenant: string
  /** Exact names; undefined: all. */
  types: string[] | undefined
  since: Date | undefined
}

/** Every type that a tenant's streams can have. */
const EVENT_TYPES: readonly string[] = [
  ...new Set(
    [
      SANDBOX_TRANSITIONS,
      EXEC_TRANSITIONS,
      IMAGE_TRANSITIONS,
      SNAPSHOT_TRANSITIONS,
      VOLUME_TRANSITIONS,
    ].flatMap((table) => table.map(({ event }) => event)),
  ),
  'CommandRejected',
]

/** A fallback for lost wake-ups. */
const POLL_MS = 2_000

/**
 * The types that `patterns` name: `SandboxFinished`, `Sandbox*`, or `sandbox.*` for an aggregate.
 *
 * @throws Rejected INVALID_ARGUMENT for a pattern that fits no type: a misspelt one would wait for ever
 */
export function expandTypes(patterns: readonly string[] | undefined): string[] | undefined {
  if (patterns === undefined) return undefined
  const found = patterns.flatMap((pattern) => {
    const types = EVENT_TYPES.filter((type) => toRegExp(pattern).test(type))
    if (types.length > 0) return types
    throw new Rejected(
      'INVALID_ARGUMENT',
      `type: no event type fits ${JSON.stringify(pattern.slice(0, 80))}`,
      {
        hint: `types are ${EVENT_TYPES.join(', ')}; "Exec*" or "exec.*" stand for several`,
      },
    )
  })
  return [...new Set(found)]
}

function toRegExp(pattern: string): RegExp {
  const [, aggregate, rest] = /^([a-z]+)\.(.+)$/.exec(pattern) ?? []
  const text = aggregate === undefined ? pattern : `${aggregate}${rest}`
  const escaped = text.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*')
  // Names are compared without case only behind an aggregate: `exec.exited` is what a subject calls ExecExited.
  return new RegExp(`^${escaped}$`, aggregate === undefined ? '' : 'i')
}

/** A page in order of position, and where the next one begins. */
export async function readFeed(
  { db }: Gateway,
  { tenant, types, since }: FeedFilter,
  after: bigint,
  limit: number,
): Promise<{ events: RecordedEvent[]; next: bigint }> {
  const events = await readAll(db, {
    afterPosition: after,
    limit,
    tenant,
    ...(types === undefined ? {} : { types }),
    ...(since === undefined ? {} : { since }),
  })
  return { events, next: events.at(-1)?.position ?? after }
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
