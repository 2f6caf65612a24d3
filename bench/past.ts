/** `history --at`: one sandbox and the whole fleet, as they were at a moment, among 10,000 sandboxes. */

import { readStream } from '#libs/event-store'
import { fleetAt, sandboxAt } from '../apps/gateway/time-travel.js'
import type { Program } from './bench.js'
import { figure, median, timed } from './figure.js'
import { writeHistory } from './history.js'
import { openStore } from './store.js'

const SANDBOXES = 10_000
const RUNS = 5

export const benchPast: Program = async () => {
  const store = await openStore()
  try {
    const { db } = store
    await writeHistory(db, SANDBOXES)
    const { rows } = await db.query<{ at: Date }>('select max(at) as at from events')
    const at = rows[0]!.at
    const one = 'sb-00000000000000000000005000'
    const times = { fleet: [] as number[], sandbox: [] as number[] }
    let cpuMs = 0
    for (let run = 0; run < RUNS; run++) {
      const cpu = process.cpuUsage()
      times.fleet.push(
        await timed(async () => {
          const fleet = await fleetAt(db, 'acme', at)
          if (fleet.sandboxes.length !== SANDBOXES) throw new Error(`${fleet.sandboxes.length} sandboxes`)
          JSON.stringify(fleet)
        }),
      )
      const { user, system } = process.cpuUsage(cpu)
      cpuMs = (user + system) / 1000
      times.sandbox.push(await timed(async () => sandboxAt(await readStream(db, one), at)))
    }
    return [
      figure({
        name: `history --at of a fleet of ${SANDBOXES}`,
        against: `120,000 events; ${cpuMs.toFixed(0)} ms of it are CPU of Node`,
        unit: 'ms',
        ours: median(times.fleet),
        baseline: null,
        target: { atMost: 1_000 },
      }),
      figure({
        name: `history SANDBOX --at, among ${SANDBOXES}`,
        against: 'its own stream alone is read',
        unit: 'ms',
        ours: median(times.sandbox),
        baseline: null,
        target: { atMost: 1_000 },
      }),
    ]
  } finally {
    await store.close()
  }
}
