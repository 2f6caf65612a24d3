/** The model keeps what Postgres keeps: the same suite runs on both, here with every way between of its own length. */

import { appendContract } from '../../../libs/event-store/append-contract.js'
import { Random } from '../random.js'
import { Postgres } from './server.js'

appendContract(async () => {
  const random = new Random(20261124)
  const env = {
    wallMs: () => Date.now(),
    after: (ms: number, run: () => void) => void setTimeout(run, ms),
    dies: () => false,
  }
  const weather = { latencyMs: () => random.int(0, 2), fate: () => null, isAway: () => false }
  return { pool: new Postgres(env, weather).pool(), drop: async () => {} }
})
