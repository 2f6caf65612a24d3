/**
 * `make power-cut`: cuts of one system under load, at moments of their own, and the judgement.
 *
 *   node --conditions=source --import tsx test/power-cut/main.ts [CUTS] [SEED]
 */

import { destroyOwnedOnSignals } from '../../scripts/system/sweep.mjs'
import { describeFinding } from '../checker/finding.js'
import { Random } from '../faults/random.js'
import { PowerCut } from './power-cut.js'

const cuts = Number(process.argv[2] ?? 5)
const seed = Number(process.argv[3] ?? Date.now() % 1_000_000)
/** Of load before a cut, at random. */
const [LOAD_MS_MIN, LOAD_MS_MAX] = [2_000, 20_000]
const say = (line: string) => console.error(line)

destroyOwnedOnSignals()
say(`power cut: ${cuts} cuts, SEED=${seed}`)
const random = new Random(seed)
const powerCut = await PowerCut.begin({ seed, say })
let failed = false
try {
  for (let n = 1; n <= cuts; n++) {
    const { on, off } = await powerCut.cutAfter(LOAD_MS_MIN + random.next() * (LOAD_MS_MAX - LOAD_MS_MIN))
    failed ||= on.lost > 0 || off.lost === 0
  }
  const { findings, events, promises, published } = await powerCut.judge()
  say(`power cut: ${powerCut.lives} lives, ${events} events, ${promises} promises, ${published} published`)
  for (const finding of findings) say(`power cut: ${describeFinding(finding)}`)
  failed ||= findings.length > 0
} finally {
  await powerCut.end()
}
say(
  failed
    ? `power cut: FAILED; again with SEED=${seed}`
    : 'power cut: nothing lost, and the control lost each time',
)
process.exit(failed ? 1 : 0)
