/**
 * Sizes of terminals on their way to one agent: one under way per exec, and the newest that came since. What comes in
 * thousands a second (a window that is dragged, a hostile caller) is a few messages, and the last one is the one that holds.
 */

export interface Size {
  rows: number
  cols: number
}

interface Waiting {
  size: Size
  sent: Promise<void>
}

export class LatestSize<Key> {
  private readonly underWay = new Map<Key, Promise<void>>()
  private readonly waiting = new Map<Key, Waiting>()

  constructor(private readonly send: (key: Key, size: Size) => Promise<void>) {}

  /** Resolves when this size, or a newer one in its place, was taken; rejects with what sending it threw. */
  set(key: Key, size: Size): Promise<void> {
    const waiting = this.waiting.get(key)
    if (waiting !== undefined) {
      waiting.size = size
      return waiting.sent
    }
    const before = this.underWay.get(key)
    if (before === undefined) return this.begin(key, size)
    const next: Waiting = { size, sent: before.catch(() => {}).then(() => this.sendWaiting(key)) }
    this.waiting.set(key, next)
    return next.sent
  }

  private sendWaiting(key: Key): Promise<void> {
    const { size } = this.waiting.get(key)!
    this.waiting.delete(key)
    return this.begin(key, size)
  }

  private begin(key: Key, size: Size): Promise<void> {
    const sent = this.send(key, size).finally(() => {
      if (this.underWay.get(key) === sent) this.underWay.delete(key)
    })
    this.underWay.set(key, sent)
    return sent
  }
}
