/**
 * The event store by itself, on a Postgres of its own with fsync on:
 *
 *   node --conditions=source --import tsx bench/append.ts
 *
 * Appends against the bare insert of one such row, placing under a long transaction against placing without one.
 */

import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  append,
  createSignerKey,
  type Database,
  loadSigner,
  openDatabase,
  Sequencer,
  upsertWorker,
  verifyTrail,
} from '#libs/event-store'
import { migrate } from '#migrations'
import { startPostgres } from '../libs/event-store/testing.js'
import { placeAll } from '../libs/event-store/testing-ledger.js'
import { event, request, sandboxId } from '../libs/event-store/testing-requests.js'
import { type Figure, figure, timed } from './figure.js'

const data = { text: 'x'.repeat(300) }

/** What `sandbox.create` writes: two events, command, live row, claim, timer, reservation. */
async function create(db: Database): Promise<string> {
  const id = sandboxId()
  await expectAppended(
    append(
      db,
      request({
        writes: [{ stream: id, expectedVersion: 0, events: [event('Created', data), event('Placed')] }],
        live: { action: 'open', sandboxId: id, workerId: 'wk-1', epoch: 1 },
        claims: { take: [{ kind: 'sandbox-name', key: id, holder: id }] },
        timers: { set: [{ key: id, afterMs: 60_000, kind: 'start-deadline', payload: {} }] },
        reservation: {
          action: 'take',
          sandboxId: id,
          workerId: 'wk-1',
          resources: { cpuMillis: 1, memoryBytes: 1, diskBytes: 1 },
        },
      }),
    ),
  )
  return id
}

/** What `sandbox.exec` writes: one event on a new stream, command, timer, and a look at the live row. */
async function exec(db: Database, sandbox: string): Promise<void> {
  const live = { action: 'require' as const, sandboxId: sandbox, open: true }
  const writes = [{ stream: sandboxId(), expectedVersion: 0, events: [event('Requested', data)] }]
  const timers = { set: [{ key: sandboxId(), afterMs: 60_000, kind: 'start-by', payload: {} }] }
  await expectAppended(append(db, request({ writes, live, timers })))
}

async function expectAppended(result: ReturnType<typeof append>): Promise<void> {
  const { outcome } = await result
  if (outcome !== 'appended') throw new Error(`the append ended as ${outcome}`)
}

async function bareInsert(db: Database): Promise<void> {
  const values = [sandboxId(), JSON.stringify(data), randomBytes(32)]
  const text = `insert into bare (stream, version, data, hash) values ($1, 1, $2, $3)`
  await db.query({ name: 'bare', text, values })
}

/** Per second, with so many at a time. */
async function rate(total: number, atOnce: number, work: () => Promise<unknown>): Promise<number> {
  const worker = async () => {
    for (let i = 0; i < total / atOnce; i++) await work()
  }
  const ms = await timed(() => Promise.all(Array.from({ length: atOnce }, worker)))
  return (total / ms) * 1000
}

async function appends(db: Database): Promise<Figure[]> {
  const sandbox = await create(db)
  const figures: Figure[] = []
  for (const atOnce of [1, 8, 32]) {
    const against = `bare inserts of one row, ${atOnce} at once`
    await rate(atOnce * 20, atOnce, () => exec(db, sandbox)) // Warms connections and plans.
    const baseline = await rate(2_000, atOnce, () => bareInsert(db))
    const execs = await rate(2_000, atOnce, () => exec(db, sandbox))
    const creates = await rate(1_000, atOnce, () => create(db))
    const common = { against, unit: '/s' as const, baseline, target: null }
    figures.push(figure({ name: `append of an exec, ${atOnce} at once`, ours: execs, ...common }))
    figures.push(figure({ name: `append of a create, ${atOnce} at once`, ours: creates, ...common }))
  }
  return figures
}

/** The sequencer looks back to where the oldest transaction began: how much does that cost? */
async function placingUnderLongTransaction(db: Database): Promise<Figure> {
  const sandbox = await create(db)
  await placeAll(db)
  const baseline = await timed(() => placeAll(db))
  await db.query(`update sequencer set floor = 0`) // As if a transaction had been open since the first event.
  await exec(db, sandbox)
  const ours = await timed(() => placeAll(db))
  const { rows } = await db.query('select count(*)::integer as n from ledger')
  const name = `placing, ${rows[0].n} events behind`
  return figure({ name, against: 'placing with nothing behind', unit: 'ms', ours, baseline, target: null })
}

async function verifying(db: Database, url: string, dir: string): Promise<string> {
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
  return `verify: ${report.events} events, ok=${report.ok}, ${Math.round(report.events / seconds)} events/s`
}

const server = await startPostgres()
const dir = mkdtempSync(join(tmpdir(), 'sandtrail-bench-'))
await migrate(server.url)
const db = openDatabase({ url: server.url, max: 32 })
try {
  await db.query(
    `create table bare (stream text, version integer, data jsonb, hash bytea, primary key (stream, version))`,
  )
  const capacity = { cpuMillis: 1e9, memoryBytes: 1e12, diskBytes: 1e12 }
  await upsertWorker(db, { workerId: 'wk-1', incarnation: 'a', capacity, poolFreeBytes: 1, info: {} })
  const figures = [...(await appends(db)), await placingUnderLongTransaction(db)]
  for (const { name, ours, baseline, unit, ratio, against } of figures) {
    const values = `${ours.toFixed(1)} ${unit} / ${baseline.toFixed(1)} ${unit} = ${ratio.toFixed(2)}`
    console.log(`${name.padEnd(34)} ${values.padEnd(38)} against ${against}`)
  }
  console.log(await verifying(db, server.url, dir))
} finally {
  await db.end()
  await server.stop()
  rmSync(dir, { recursive: true })
}
