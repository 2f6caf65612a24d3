/** One line of a benchmark: ours against a named baseline measured in the same run. */

export interface Figure {
  name: string
  /** What stands in the denominator, and how it was measured; without a baseline, what the figure is made of. */
  against: string
  /** Of `ours` and `baseline`. */
  unit: string
  ours: number
  /** Null: the figure is judged by itself. */
  baseline: number | null
  /** Of ours to the baseline. */
  ratio: number | null
  /** Of the ratio, or of ours where there is no baseline; null: printed, not judged. */
  target: { atMost: number } | { atLeast: number } | null
  holds: boolean | null
}

export function figure(given: Omit<Figure, 'ratio' | 'holds'>): Figure {
  const { target, ours, baseline } = given
  const ratio = baseline === null ? null : ours / baseline
  const judged = ratio ?? ours
  const holds =
    target === null ? null : 'atMost' in target ? judged <= target.atMost : judged >= target.atLeast
  return { ...given, ratio, holds }
}

export function describe({ name, against, unit, ours, baseline, ratio, target, holds }: Figure): string {
  const wanted = target === null ? '' : 'atMost' in target ? `<= ${target.atMost}` : `>= ${target.atLeast}`
  const verdict = holds === null ? '' : holds ? 'holds' : 'MISSED'
  const values =
    baseline === null || ratio === null
      ? `${round(ours)} ${unit}`
      : `${round(ours)} / ${round(baseline)} ${unit} = ${ratio.toFixed(2)}`
  return `${name.padEnd(44)} ${values.padEnd(32)} ${wanted.padEnd(8)} ${verdict.padEnd(7)} ${against}`
}

const round = (value: number) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3))

export function median(values: number[]): number {
  return quantile(values, 0.5)
}

export function quantile(values: number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))]!
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
 * @param tidy after each of ours, not timed
 * @returns the medians, without the first, warming pair
 */
export async function paired(
  runs: number,
  ours: () => Promise<unknown>,
  baseline: () => Promise<unknown>,
  tidy: () => Promise<unknown> = async () => {},
) {
  const samples = { ours: [] as number[], baseline: [] as number[] }
  for (let run = 0; run <= runs; run++) {
    const oursMs = await timed(ours)
    await tidy()
    const pair = { ours: oursMs, baseline: await timed(baseline) }
    if (run === 0) continue
    samples.ours.push(pair.ours)
    samples.baseline.push(pair.baseline)
  }
  return { ours: median(samples.ours), baseline: median(samples.baseline) }
}

/** Works `total` times, `atOnce` at a time. Returns how many per second. */
export async function rate(total: number, atOnce: number, work: () => Promise<unknown>): Promise<number> {
  const worker = async () => {
    for (let i = 0; i < total / atOnce; i++) await work()
  }
  const ms = await timed(() => Promise.all(Array.from({ length: atOnce }, worker)))
  return (total / ms) * 1000
}

/** Starts `work` every `1 / perSecond` seconds whether or not the one before has ended; resolves when all have. */
export async function paced(
  perSecond: number,
  seconds: number,
  work: (index: number) => Promise<unknown>,
): Promise<void> {
  const begin = performance.now()
  const under: Promise<unknown>[] = []
  for (let index = 0; index < perSecond * seconds; ) {
    const due = ((performance.now() - begin) / 1000) * perSecond
    for (; index < Math.min(due, perSecond * seconds); index++) under.push(work(index))
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
  await Promise.all(under)
}
