/** What follows an append: placing, and the proof of the whole. */

import { join } from 'node:path'
import { append, createSignerKey, loadSigner, Sequencer, verifyTrail } from '#libs/event-store'
import { placeAll } from '../libs/event-store/testing-ledger.js'
import { event, request } from '../libs/event-store/testing-requests.js'
import type { Program } from './bench.js'
import { type Figure, figure, timed } from './figure.js'
import { openStore, type Store } from './store.js'

export const benchLedger: Program = async ({ full }) => {
  const store = await openStore()
  try {
    for (let n = 0; n < (full ? 1_000 : 100); n++) await append(store.db, hundredEvents())
    return [await placingUnderLongTransaction(store), await verifying(store)]
  } finally {
    await store.close()
  }
}

function hundredEvents() {
  const one = request()
  const [write] = one.writes
  return { ...one, writes: [{ ...write!, events: Array.from({ length: 100 }, () => event()) }] }
}

/** The sequencer looks back to where the oldest transaction began: how much does that cost? */
async function placingUnderLongTransaction({ db }: Store): Promise<Figure> {
  await placeAll(db)
  const baseline = await timed(() => placeAll(db))
  await db.query(`update sequencer set floor = 0`) // As if a transaction had been open since the first event.
  await append(db, request())
  const ours = await timed(() => placeAll(db))
  const { rows } = await db.query('select count(*)::integer as n from ledger')
  const name = `placing, ${rows[0].n} events behind`
  return figure({ name, against: 'placing with nothing behind', unit: 'ms', ours, baseline, target: null })
}

async function verifying({ db, url, dir }: Store): Promise<Figure> {
  createSignerKey(join(dir, 'key'))
  const signer = loadSigner(join(dir, 'key'), 'bench')
  const trailFile = join(dir, 'trail')
  await db.query(`update sequencer set heartbeat_at = '-infinity'`)
  const sequencer = new Sequencer({ db, trailFile, signer, publish: async () => {} })
  sequencer.start()
  while (!sequencer.isLeader) await new Promise((resolve) => setTimeout(resolve, 10))
  await sequencer.stop()
  const start = performance.now()
  const report = await verifyTrail({ databaseUrl: url, trailFile, publicKey: signer.publicKey })
  const seconds = (performance.now() - start) / 1000
  if (!report.ok) throw new Error('the trail does not verify')
  return figure({
    name: `verify of ${report.events} events`,
    against: 'rehash, replay of effects, compare with the trail file',
    unit: 'events/s',
    ours: report.events / seconds,
    baseline: null,
    target: null,
  })
}
