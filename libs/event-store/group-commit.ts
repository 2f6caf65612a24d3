/**
 * Commands that come while others are being written share the next transaction, and so its wait for the disk. It is all
 * or none: when one of them is refused, none is written, and each is written again by itself. So what a command hears
 * is what it would have heard alone. A command that comes alone waits for nobody.
 */

import type { Database } from './database.js'
import type { AppendRequest, AppendResult } from './types.js'
import { type Prepared, type Written, write } from './write.js'

/** Of one process: while one waits for the disk, the next is being sent. */
const UNDER_WAY_MAX = 2
/** A transaction of 32 takes some 10 ms. One that takes longer waits for a lock, and those after it must not wait too. */
const PATIENCE_MS = 50
/** As many as bench/append.ts sends at once; more would hold their locks longer and share no more of the wait. */
const COMMANDS_MAX = 32
const EVENTS_MAX = 256

interface Waiting {
  prepared: Prepared
  keys: string[]
  resolve(result: AppendResult): void
  reject(error: unknown): void
}

export class Groups {
  private waiting: Waiting[] = []
  private underWay = 0

  constructor(private readonly db: Database) {}

  /** As `append`, for what is prepared. */
  write(prepared: Prepared): Promise<AppendResult> {
    return new Promise((resolve, reject) => {
      // Before it waits with others: a request that is no request fails by itself.
      const keys = keysOf(prepared.request)
      this.waiting.push({ prepared, keys, resolve, reject })
      this.begin()
    })
  }

  private begin(): void {
    while (this.underWay < UNDER_WAY_MAX && this.waiting.length > 0) void this.run(this.take())
  }

  /** The one that has waited longest, and those that can go with it. */
  private take(): Waiting[] {
    const chooser = new Chooser()
    const group: Waiting[] = []
    const left: Waiting[] = []
    for (const each of this.waiting) (chooser.admits(each) ? group : left).push(each)
    this.waiting = left
    return group
  }

  private async run(group: Waiting[]): Promise<void> {
    this.underWay++
    let isCounted = true
    const leave = () => {
      if (!isCounted) return
      isCounted = false
      this.underWay--
      this.begin()
    }
    const patience = setTimeout(leave, PATIENCE_MS)
    try {
      await this.settle(group)
    } finally {
      clearTimeout(patience)
      leave()
    }
  }

  /** Never rejects. */
  private async settle(group: Waiting[]): Promise<void> {
    let written: Written | null
    try {
      written = await write(
        this.db,
        group.map(({ prepared }) => prepared),
      )
    } catch (error) {
      for (const { reject } of group) reject(error)
      return
    }
    if (written === null) {
      await Promise.all(group.map((each) => this.settle([each])))
      return
    }
    for (const [i, result] of written.entries()) {
      if (result.status === 'fulfilled') group[i]!.resolve(result.value)
      else group[i]!.reject(result.reason)
    }
  }
}

/**
 * Whether a command may go with those before it: nothing that one of them touches may another touch, so that their order
 * means nothing, and the locks of all can be taken in one order.
 */
class Chooser {
  private readonly keys = new Set<string>()
  private first: AppendRequest | null = null
  private commands = 0
  private events = 0
  /** Looks at live rows go with looks, changes with changes. */
  private readsLive: boolean | null = null
  /** Whose reservations change. Worker and tenant are locked in turn, so there is one of each. */
  private worker: string | null = null

  admits({ prepared: { request, events }, keys }: Waiting): boolean {
    const { first } = this
    const readsLive = request.live ? request.live.action === 'require' : null
    const worker = workerOf(request)
    if (first !== null) {
      if (request.tenant !== first.tenant || request.unmounted || first.unmounted) return false
      if (this.commands >= COMMANDS_MAX || this.events + events.length > EVENTS_MAX) return false
      if (readsLive !== null && this.readsLive !== null && readsLive !== this.readsLive) return false
      if (worker !== null && this.worker !== null && (worker !== this.worker || worker === '')) return false
      if (keys.some((key) => this.keys.has(key))) return false
    }
    this.first ??= request
    this.commands++
    this.events += events.length
    this.readsLive ??= readsLive
    this.worker ??= worker
    for (const key of keys) this.keys.add(key)
    return true
  }
}

/** The worker whose reserved capacity changes; null: none; empty: it is not known which. */
function workerOf({ reservation, live }: AppendRequest): string | null {
  if (!reservation) return null
  if (reservation.action === 'take') return reservation.workerId
  return live?.action === 'close' ? (live.workerId ?? '') : ''
}

/** Every row that it writes and another command might. */
function keysOf({ command, writes, live, claims = {}, timers = {}, execSlot }: AppendRequest): string[] {
  const claimed = [...(claims.take ?? []), ...(claims.release ?? []), ...(claims.require ?? [])]
  return [
    `command ${command.id}`,
    ...writes.map(({ stream }) => `stream ${stream}`),
    ...(live && live.action !== 'require' ? [`live ${live.sandboxId}`] : []),
    ...claimed.map(({ kind, key }) => `claim ${JSON.stringify([kind, key])}`),
    ...[...(timers.set ?? []), ...(timers.consume ?? [])].map(({ key }) => `timer ${key}`),
    ...(timers.cancel ?? []).map((key) => `timer ${key}`),
    ...(execSlot ? [`slot ${execSlot.execId}`] : []),
  ]
}

const groups = new WeakMap<Database, Groups>()

/** The groups of all that is appended through this pool. */
export function groupsOf(db: Database): Groups {
  let found = groups.get(db)
  if (found === undefined) {
    found = new Groups(db)
    groups.set(db, found)
  }
  return found
}
