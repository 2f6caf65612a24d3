/** One cut of the power of a whole system under load; `make power-cut` makes many. */

import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { describeFinding } from './checker/finding.js'
import { PowerCut } from './power-cut/power-cut.js'

const SEED = Number(process.env.SEED ?? 5)
const LOAD_MS = 6_000

let powerCut: PowerCut
beforeAll(async () => {
  powerCut = await PowerCut.begin({ seed: SEED, say: (line) => void process.stderr.write(`${line}\n`) })
}, 480_000)
afterAll(() => powerCut?.end(), 90_000)

test('what was accepted outlives the power, and a server that does not wait for its disk loses', async () => {
  const { on, off } = await powerCut.cutAfter(LOAD_MS)
  expect(on.acknowledged).toBeGreaterThan(0)
  expect(on.lost).toBe(0)
  expect(off.lost).toBeGreaterThan(0)

  const { findings, events, promises } = await powerCut.judge()
  console.info(`SEED=${SEED}: ${powerCut.lives} lives, ${events} events, ${promises} promises`)
  expect(findings.map(describeFinding)).toEqual([])
  expect(promises).toBeGreaterThan(0)
}, 900_000)
