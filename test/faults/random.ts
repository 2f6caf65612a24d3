/** The same numbers for the same seed, so that a run can be had again. mulberry32, public domain. */
export class Random {
  private state: number

  constructor(seed: number) {
    this.state = seed >>> 0
  }

  /** 0 <= n < 1 */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0
    let t = this.state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }

  pick<T>(from: readonly T[]): T {
    return from[Math.floor(this.next() * from.length)]!
  }

  /** A new array in another order. */
  shuffle<T>(from: readonly T[]): T[] {
    const rest = [...from]
    return from.map(() => rest.splice(Math.floor(this.next() * rest.length), 1)[0]!)
  }
}
