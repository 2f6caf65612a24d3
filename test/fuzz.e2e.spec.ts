/** A slice of the fuzzers of the whole system, after their corpora; `make fuzz` goes on for as long as it is told. */

import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { describeOutcomes, fuzzHttp, fuzzNats } from './fuzz/run.js'
import { startTarget, type Target } from './fuzz/target.js'

const SEED = Number(process.env.SEED ?? 7)
/** Of each fuzzer. */
const TIME_MS = 12_000

let target: Target
beforeAll(async () => {
  target = await startTarget()
}, 240_000)
afterAll(() => target?.stop(), 120_000)

const budget = { seed: SEED, timeMs: TIME_MS, path: process.env.FUZZ_PATH }

test('whatever is sent by HTTP has a coded answer', async () => {
  const outcomes = await fuzzHttp(target, budget)
  console.info(`SEED=${SEED}: ${describeOutcomes(outcomes)}`)
  // Both kinds, or nothing was tried.
  expect(outcomes.get('400')).toBeGreaterThan(10)
  expect([...outcomes.keys()].some((outcome) => outcome.startsWith('2'))).toBe(true)
}, 120_000)

test('whatever is sent on NATS, by tenants, operators, a worker and the platform, has a coded answer', async () => {
  const outcomes = await fuzzNats(target, budget)
  console.info(`SEED=${SEED}: ${describeOutcomes(outcomes)}`)
  expect(outcomes.get('INVALID_ARGUMENT')).toBeGreaterThan(10)
  expect(outcomes.get('ok')).toBeGreaterThan(0)
}, 120_000)

test('after all of it every service is the process that it was, nothing is lost, and sandboxes run', async () => {
  expect(await target.judge()).toEqual([])
}, 240_000)
