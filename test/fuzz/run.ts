/** One fuzzer after the other for a time each: first what the corpus has, then what a seed gives. */

import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { type HttpCase, httpCase, tryHttp } from './http.js'
import { type NatsCase, natsCase, tryNats } from './nats.js'
import type { Target } from './target.js'

export interface Budget {
  seed: number
  /** Of each fuzzer, in ms. */
  timeMs: number
  /** As a failure prints it, to go straight to its case. */
  path?: string | undefined
}

export type Outcomes = Map<string, number>

export const fuzzHttp = (target: Target, budget: Budget) =>
  fuzz<HttpCase>('http', httpCase, (one) => tryHttp(target, one), budget)

export const fuzzNats = (target: Target, budget: Budget) =>
  fuzz<NatsCase>('nats', natsCase, (one) => tryNats(target, one), budget)

/** @throws with the smallest case that was found, and the seed and path that bring it again */
async function fuzz<Case>(
  name: string,
  cases: fc.Arbitrary<Case>,
  attempt: (one: Case) => Promise<string>,
  { seed, timeMs, path }: Budget,
): Promise<Outcomes> {
  const outcomes: Outcomes = new Map()
  const property = fc.asyncProperty(cases, async (one) => {
    const outcome = await attempt(one)
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
  })
  const report = await fc.check(property, {
    seed,
    ...(path === undefined ? {} : { path }),
    examples: path === undefined ? corpusOf<Case>(name).map((one) => [one]) : [],
    numRuns: 1_000_000_000,
    interruptAfterTimeLimit: timeMs,
    markInterruptAsFailure: false,
  })
  if (!report.failed) return outcomes
  const [found] = report.counterexample ?? []
  const cause = report.errorInstance as Error
  throw new Error(
    `${cause.message}\n  case: ${JSON.stringify(found)}\n  again: SEED=${report.seed} FUZZ_PATH=${report.counterexamplePath} ONLY=${name}`,
    { cause },
  )
}

/** Cases that were found, or thought of, and must stay mended. */
function corpusOf<Case>(name: string): Case[] {
  const file = readFileSync(new URL(`corpus/${name}.json`, import.meta.url), 'utf8')
  return (JSON.parse(file) as { why: string; case: Case }[]).map((entry) => entry.case)
}

export function describeOutcomes(outcomes: Outcomes): string {
  return [...outcomes]
    .sort(([, a], [, b]) => b - a)
    .map(([outcome, count]) => `${outcome} ${count}`)
    .join(', ')
}
