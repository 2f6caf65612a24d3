/** One line of a benchmark: ours against a named baseline measured in the same run. */

export interface Figure {
  name: string
  /** What stands in the denominator, and how it was measured. */
  against: string
  unit: 'ms' | '/s' | 'MiB/s'
  ours: number
  baseline: number
  ratio: number
  /** `<= 1.25` or `>= 0.6` of the ratio; null: printed, not judged. */
  target: { atMost: number } | { atLeast: number } | null
  holds: boolean | null
}

export function figure(given: Omit<Figure, 'ratio' | 'holds'>): Figure {
  const ratio = given.ours / given.baseline
  const { target } = given
  const holds = target === null ? null : 'atMost' in target ? ratio <= target.atMost : ratio >= target.atLeast
  return { ...given, ratio, holds }
}

export function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)]!
}

/** Milliseconds that `work` took. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  await work()
  return performance.now() - start
}

/**
 * Measures both in turn, so that a machine whose speed drifts slows both: ours, baseline, ours, …
 *
 * @returns the medians, without the first, warming pair
 */
export async function paired(runs: number, ours: () => Promise<unknown>, baseline: () => Promise<unknown>) {
  const samples = { ours: [] as number[], baseline: [] as number[] }
  for (let run = 0; run <= runs; run++) {
    const pair = { ours: await timed(ours), baseline: await timed(baseline) }
    if (run === 0) continue
    samples.ours.push(pair.ours)
    samples.baseline.push(pair.baseline)
  }
  return { ours: median(samples.ours), baseline: median(samples.baseline) }
}
