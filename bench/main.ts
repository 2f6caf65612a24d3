/** `make bench`: figures against baselines of the same run, printed and written to .sandtrail/bench.json. */

import { mkdirSync, writeFileSync } from 'node:fs'
import { startSystem } from '../scripts/system/system.mjs'
import { tools } from '../scripts/system/tools.mjs'
import { byHand } from './by-hand.js'
import { openClient } from './client.js'
import { benchCreate } from './create.js'
import { benchDelivery } from './delivery.js'
import { benchExec } from './exec.js'
import type { Figure } from './figure.js'
import { benchStdio } from './stdio.js'

const { SANDTRAIL_RUNSC = '', SANDTRAIL_RUNSC_PLATFORM = '', SANDTRAIL_BASE_IMAGE = '' } = tools()

const system = await startSystem({ say: (line: string) => console.error(`starting ${line}`) })
const hand = await byHand(SANDTRAIL_RUNSC, SANDTRAIL_RUNSC_PLATFORM, SANDTRAIL_BASE_IMAGE)
const client = await openClient(system.env)
const figures: Figure[] = []
try {
  for (const program of [benchCreate, benchExec, benchStdio, benchDelivery]) {
    for (const figure of await program(client, hand)) {
      figures.push(figure)
      print(figure)
    }
  }
} finally {
  await client.close()
  await hand.remove()
  await system.stop()
}
mkdirSync('.sandtrail', { recursive: true })
writeFileSync('.sandtrail/bench.json', `${JSON.stringify(figures, null, 2)}\n`)

function print({ name, against, unit, ours, baseline, ratio, target, holds }: Figure): void {
  const wanted = target === null ? '' : 'atMost' in target ? `<= ${target.atMost}` : `>= ${target.atLeast}`
  const verdict = holds === null ? '' : holds ? 'holds' : 'MISSED'
  const figures = `${ours.toFixed(1)} ${unit} / ${baseline.toFixed(1)} ${unit} = ${ratio.toFixed(2)}`
  console.log(
    `${name.padEnd(32)} ${figures.padEnd(32)} ${wanted.padEnd(8)} ${verdict.padEnd(7)} against ${against}`,
  )
}
