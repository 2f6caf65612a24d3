/** All read models, built anew from the first event of a long history. */

import { rebuildProjection, sandboxesProjection } from '#libs/event-store'
import { imagesProjection } from '../apps/snapshotter/images-table.js'
import { snapshotsProjection } from '../apps/snapshotter/snapshots-table.js'
import type { Program } from './bench.js'
import { figure, timed } from './figure.js'
import { EVENTS_PER_SANDBOX, writeHistory } from './history.js'
import { openStore } from './store.js'

export const benchRebuild: Program = async ({ full }) => {
  const events = full ? 1_000_000 : 120_000
  const store = await openStore()
  try {
    await writeHistory(store.db, Math.ceil(events / EVENTS_PER_SANDBOX))
    // What no rebuild can do without: every event, in order, once.
    const client = await store.db.connect()
    await client.query('set statement_timeout = 0')
    const reading = await timed(() =>
      client.query(`
        select count(e.data)
        from (select * from ledger order by position) l
        join events e on e.stream = l.stream and e.version = l.version
      `),
    )
    client.release()
    const cpu = process.cpuUsage()
    const building = await timed(async () => {
      for (const projection of [sandboxesProjection, imagesProjection, snapshotsProjection]) {
        await rebuildProjection(store.db, projection)
      }
    })
    const { user, system } = process.cpuUsage(cpu)
    const { rows } = await store.db.query('select count(*)::integer as n from sandboxes')
    const wanted = Math.ceil(events / EVENTS_PER_SANDBOX)
    if (rows[0].n !== wanted) throw new Error(`${rows[0].n} sandboxes were built, not ${wanted}`)
    const seconds = ((user + system) / 1e6).toFixed(1)
    return [
      figure({
        name: `rebuild of all projections, ${events} events`,
        against: `one query that reads them all in order; ${seconds} s of it are CPU of Node`,
        unit: 'ms',
        ours: building,
        baseline: reading,
        target: null,
      }),
    ]
  } finally {
    await store.close()
  }
}
