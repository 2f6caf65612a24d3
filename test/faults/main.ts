/**
 * `make soak`, its second part: every place x every action, and every calamity at moments of its own, in batches, each
 * on a system of its own that is judged at its end.
 *
 *   node --conditions=source --import tsx test/faults/main.ts [SECONDS] [SEED]
 *
 * No batch begins after SECONDS; what was left out is said. The exit code is 1 when anything was found.
 */

import { setTimeout as delay } from 'node:timers/promises'
import { destroyOwnedOnSignals } from '../../scripts/system/sweep.mjs'
import { describeFinding } from '../checker/finding.js'
import { CALAMITIES, type CrashPoint, crashPoints } from './faults.js'
import { Ordeal } from './ordeal.js'
import { Random } from './random.js'

const BATCH = 30
/** The lease is what production has, and what is stopped stays so beyond it. */
const OPTIONS = {
  clients: 4,
  leaseGraceMs: 30_000,
  timing: { stoppedMs: 45_000, hungMs: 5_000, reachedMs: 30_000 },
}
/** Between two calamities, at random. */
const PEACE_MS_MAX = 5_000

const seconds = Number(process.argv[2] ?? 7_200)
const seed = Number(process.argv[3] ?? Date.now() % 1_000_000)
const say = (line: string) => console.error(`soak: ${line}`)

type Fault = { crash: CrashPoint } | { calamity: string }

async function suffer(ordeal: Ordeal, faults: readonly Fault[], random: Random): Promise<void> {
  for (const fault of faults) {
    if ('crash' in fault) await ordeal.crash(fault.crash)
    else {
      await delay(random.next() * PEACE_MS_MAX)
      await ordeal.suffer(fault.calamity)
    }
  }
}

async function batch(faults: readonly Fault[], random: Random): Promise<number> {
  const ordeal = await Ordeal.begin({ ...OPTIONS, seed, say })
  try {
    await suffer(ordeal, faults, random)
    const { findings, events, promises, published } = await ordeal.judge()
    const unreached = ordeal.unreached.map(({ service, name, action }) => `${service} ${name} ${action}`)
    say(
      `${faults.length} faults, ${ordeal.lives} lives, ${events} events, ${promises} promises, ${published} published`,
    )
    if (unreached.length > 0) say(`not reached: ${unreached.join(', ')}`)
    for (const finding of findings) say(describeFinding(finding))
    return findings.length
  } finally {
    await ordeal.end()
  }
}

destroyOwnedOnSignals()
const random = new Random(seed)
const faults = random.shuffle<Fault>([
  ...crashPoints().map((crash) => ({ crash })),
  // Each as often as it takes to meet many moments.
  ...Object.keys(CALAMITIES).flatMap((calamity) => Array.from({ length: 4 }, () => ({ calamity }))),
])
say(`SEED=${seed}, ${faults.length} faults`)
const endAt = performance.now() + seconds * 1_000
let found = 0
let done = 0
for (; done < faults.length && performance.now() < endAt; done += BATCH) {
  found += await batch(faults.slice(done, done + BATCH), random)
}
say(`${Math.min(done, faults.length)} of ${faults.length} faults, ${found} findings; again with SEED=${seed}`)
process.exit(found === 0 ? 0 : 1)
