/** A seeded slice of the crash matrix on one system under load; `make soak` runs all of it. */

import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { describeFinding } from './checker/finding.js'
import { crashPoints } from './faults/faults.js'
import { Ordeal } from './faults/ordeal.js'
import { Random } from './faults/random.js'

const SEED = Number(process.env.SEED ?? 5)
const CRASHES = 6
const CALAMITIES = [
  'a worker stopped beyond its lease',
  "loss of the broker's store",
  'kill -9 of postgres',
  'kill -9 of everything',
]

/** At once, not when the test is over: where a run stands still is what one wants to know. */
const say = (line: string) => void process.stderr.write(`${line}\n`)

let ordeal: Ordeal
beforeAll(async () => {
  const timing = { stoppedMs: 8_000, hungMs: 2_000, reachedMs: 20_000 }
  ordeal = await Ordeal.begin({ seed: SEED, clients: 3, leaseGraceMs: 4_000, timing, say })
}, 180_000)
afterAll(() => ordeal?.end(), 90_000)

test('whatever breaks, what was accepted comes to one end, and nothing is left', async () => {
  const random = new Random(SEED)
  const crashes = random.shuffle(crashPoints()).slice(0, CRASHES)
  for (const point of crashes) await ordeal.crash(point)
  for (const calamity of CALAMITIES) await ordeal.suffer(calamity)
  const { findings, events, promises, published } = await ordeal.judge()
  console.info(
    `SEED=${SEED}: ${ordeal.lives} lives, ${events} events, ${promises} promises, ${published} published`,
  )
  expect(findings.map(describeFinding)).toEqual([])
  expect(ordeal.unreached).toEqual([])
  expect(ordeal.lives).toBeGreaterThan(0)
}, 900_000)
