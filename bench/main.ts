/**
 * `make bench`: figures against baselines of the same run, printed and written to .sandtrail/bench.json.
 *
 *   main.ts [program...]       only these; SIZE=full: the sizes of the targets
 *
 * docs/performance.md says what each figure means, and what its time is made of.
 */

import { mkdirSync, writeFileSync } from 'node:fs'
import { benchAppend } from './append.js'
import { openBench, type Program } from './bench.js'
import { benchBurst } from './burst.js'
import { benchCreate } from './create.js'
import { benchDelivery } from './delivery.js'
import { benchExec } from './exec.js'
import { describe, type Figure } from './figure.js'
import { benchIdle } from './idle.js'
import { benchLedger } from './ledger.js'
import { benchLoad } from './load.js'
import { benchNeighbour } from './neighbour.js'
import { benchOverload } from './overload.js'
import { benchPast } from './past.js'
import { benchPodman } from './podman.js'
import { benchRebuild } from './rebuild.js'
import { benchStdio } from './stdio.js'

const PROGRAMS: Record<string, Program> = {
  // A database of their own.
  append: benchAppend,
  ledger: benchLedger,
  rebuild: benchRebuild,
  past: benchPast,
  delivery: benchDelivery,
  // The stock system.
  create: benchCreate,
  exec: benchExec,
  podman: benchPodman,
  stdio: benchStdio,
  // A system of their own.
  burst: benchBurst,
  idle: benchIdle,
  load: benchLoad,
  overload: benchOverload,
  neighbour: benchNeighbour,
}

const asked = process.argv.slice(2)
const unknown = asked.filter((name) => !(name in PROGRAMS))
if (unknown.length > 0) {
  console.error(`no figure ${unknown.join(', ')}; there are ${Object.keys(PROGRAMS).join(', ')}`)
  process.exit(2)
}

const bench = openBench(process.env.SIZE === 'full')
const figures: Figure[] = []
try {
  for (const [name, program] of Object.entries(PROGRAMS)) {
    if (asked.length > 0 && !asked.includes(name)) continue
    console.error(`-- ${name}`)
    for (const figure of await program(bench)) {
      figures.push(figure)
      console.log(describe(figure))
    }
  }
} finally {
  await bench.close()
}
mkdirSync('.sandtrail', { recursive: true })
writeFileSync('.sandtrail/bench.json', `${JSON.stringify(figures, null, 2)}\n`)
