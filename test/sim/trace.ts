/** What happened in a run, in order, as one running hash: two runs of a seed must have the same. */

export class Trace {
  private low = 0x811c9dc5
  private high = 0x9747b28c
  steps = 0

  constructor(
    private readonly verbose: boolean,
    private readonly now: () => number,
  ) {}

  add(...parts: (string | number)[]): void {
    const line = `${this.now().toFixed(3)} ${parts.join(' ')}`
    for (let i = 0; i < line.length; i++) {
      const code = line.charCodeAt(i)
      this.low = Math.imul(this.low ^ code, 0x01000193)
      this.high = Math.imul(this.high ^ code, 0x85ebca6b)
    }
    this.steps++
    if (this.verbose) console.error(line)
  }

  get hash(): string {
    return [this.high, this.low].map((half) => (half >>> 0).toString(16).padStart(8, '0')).join('')
  }
}
