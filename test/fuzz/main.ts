/**
 * `make fuzz`: both fuzzers of the system for SECONDS each, on one system, which is judged at the end.
 *
 *   node --conditions=source --import tsx test/fuzz/main.ts [SECONDS] [SEED]        FUZZ_PATH=... goes to one case
 */

import { destroyOwnedOnSignals } from '../../scripts/system/sweep.mjs'
import { describeOutcomes, fuzzHttp, fuzzNats } from './run.js'
import { startTarget } from './target.js'

const seconds = Number(process.argv[2] ?? 60)
const seed = Number(process.argv[3] ?? Date.now() % 1_000_000)
const say = (line: string) => console.error(`fuzz: ${line}`)

destroyOwnedOnSignals()
say(`SEED=${seed}`)
const target = await startTarget()
let failed = false
try {
  const budget = { seed, timeMs: seconds * 1_000, path: process.env.FUZZ_PATH }
  for (const [name, fuzz] of Object.entries({ http: fuzzHttp, nats: fuzzNats })) {
    if (process.env.ONLY !== undefined && process.env.ONLY !== name) continue
    try {
      say(`${name}: ${describeOutcomes(await fuzz(target, budget))}`)
    } catch (error) {
      failed = true
      say(`${name}: ${(error as Error).message}`)
    }
  }
  const faults = await target.judge()
  for (const fault of faults) say(fault)
  failed ||= faults.length > 0
} finally {
  await target.stop()
}
say(`${failed ? 'failed' : 'ok'}; again with SEED=${seed}`)
process.exit(failed ? 1 : 0)
