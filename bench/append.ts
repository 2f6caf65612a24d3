/**
 * What one command writes, against the least that a database can write (a bare insert by pgbench, same clients, one a
 * transaction), against another event store on the same database, and in batches against COPY.
 */

import { execFileSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { append, type Database } from '#libs/event-store'
import { event, request, sandboxId } from '../libs/event-store/testing-requests.js'
import type { Program } from './bench.js'
import { type Figure, figure, median, rate } from './figure.js'
import { openStore, type Store } from './store.js'

const data = { text: 'x'.repeat(300) }
const ROUNDS = 3
const BATCH = 100

// The row has what an event cannot do without, and as many bytes.
const BARE = `
  create sequence bare_stream;
  create table bare (stream text, version integer, data jsonb, hash bytea, primary key (stream, version))
`
const BARE_INSERT = `
  insert into bare (stream, version, data, hash)
  values ('sb-' || lpad(nextval('bare_stream')::text, 26, '0'), 1, '${JSON.stringify(data)}', '\\x${'ab'.repeat(32)}')
`

export const benchAppend: Program = async ({ full }) => {
  const store = await openStore()
  try {
    await store.db.query(BARE)
    return [...(await commands(store, full ? 10 : 3)), ...(await batches(store, full ? 200 : 60))]
  } finally {
    await store.close()
  }
}

async function commands(store: Store, seconds: number): Promise<Figure[]> {
  const { db, url } = store
  const sandbox = await create(db)
  const emmett = openEmmett(url)
  const figures: Figure[] = []
  for (const clients of [1, 8, 32]) {
    const lasting = (work: () => Promise<unknown>) => () => during(seconds, clients, work)
    const exec_ = lasting(() => exec(db, sandbox))
    await exec_() // Warms connections and plans.
    const [bare, execs, creates, others] = await inTurn(store, seconds, [
      () => store.pgbench(BARE_INSERT, clients, seconds),
      exec_,
      lasting(() => create(db)),
      lasting(() => emmett.append()),
    ])
    const common = { unit: '/s', baseline: bare!.rate }
    const against = `bare insert by pgbench, ${clients} clients; CPU of each`
    figures.push(
      figure({
        name: `append of an exec, ${clients} at once`,
        ...common,
        ours: execs!.rate,
        against: `${against} ${execs!.cpu} / ${bare!.cpu} ms (the server's alone)`,
        target: { atLeast: 0.6 },
      }),
      figure({
        name: `append of a create, ${clients} at once`,
        ...common,
        ours: creates!.rate,
        against: `${against} ${creates!.cpu} / ${bare!.cpu} ms (the server's alone)`,
        target: null,
      }),
      figure({
        name: `append of an exec, ${clients} at once`,
        ...common,
        ours: execs!.rate,
        baseline: others!.rate,
        against: `emmett's appendToStream, same database; CPU of each ${execs!.cpu} / ${others!.cpu} ms`,
        target: { atLeast: 2 },
      }),
    )
  }
  await emmett.close()
  return figures
}

/**
 * Runs them one after the other, some rounds, so that a machine whose speed drifts slows all.
 *
 * @returns of each the median rate, and the CPU time of one in milliseconds, server and Node together
 */
async function inTurn(store: Store, seconds: number, ways: (() => Promise<number>)[]) {
  const samples = ways.map(() => ({ rates: [] as number[], cpuMs: 0, count: 0 }))
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, way] of ways.entries()) {
      const before = store.cpuMs()
      const perSecond = await way()
      samples[i]!.cpuMs += store.cpuMs() - before
      samples[i]!.count += perSecond * seconds
      samples[i]!.rates.push(perSecond)
    }
  }
  return samples.map(({ rates, cpuMs, count }) => ({ rate: median(rates), cpu: (cpuMs / count).toFixed(2) }))
}

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

/** Per second, with so many at a time, for so long. */
async function during(seconds: number, atOnce: number, work: () => Promise<unknown>): Promise<number> {
  const begin = performance.now()
  let done = 0
  const client = async () => {
    while (performance.now() - begin < seconds * 1000) {
      await work()
      done++
    }
  }
  await Promise.all(Array.from({ length: atOnce }, client))
  return done / ((performance.now() - begin) / 1000)
}

function openEmmett(url: string) {
  const home = fileURLToPath(new URL('emmett/', import.meta.url))
  if (!existsSync(join(home, 'node_modules'))) {
    execFileSync('npm', ['ci', '--prefix', home, '--ignore-scripts', '--no-audit', '--no-fund'], {
      stdio: 'pipe',
    })
  }
  const { getPostgreSQLEventStore } = createRequire(home)('@event-driven-io/emmett-postgresql')
  const store = getPostgreSQLEventStore(url)
  return {
    append: () =>
      store.appendToStream(sandboxId(), [{ type: 'Requested', data }], {
        expectedStreamVersion: 'STREAM_DOES_NOT_EXIST',
      }),
    close: () => store.close(),
  }
}

/** One append of 100 events, against COPY of 100 such rows in one statement. Events a second. */
async function batches(store: Store, batchCount: number): Promise<Figure[]> {
  const { db, dir } = store
  await db.query(`
    create table copied (
      tenant text, stream text, version integer, seq bigint generated always as identity primary key, event_id uuid,
      type text, type_version smallint, at timestamptz(3), data jsonb, meta jsonb, prev_hash bytea, hash bytea
    )
  `)
  const ours = () => {
    const writes = [
      {
        stream: sandboxId(),
        expectedVersion: 0,
        events: Array.from({ length: BATCH }, () => event('Requested', data)),
      },
    ]
    return expectAppended(append(db, request({ writes })))
  }
  await ours()
  // Read by the server, which is another user.
  const file = join(dir, 'batch')
  const columns = 'tenant, stream, version, event_id, type, type_version, at, data, meta, prev_hash, hash'
  // As COPY itself writes the events that were just appended.
  const { rows } = await db.query<Record<string, string>>(
    `select tenant, stream, version::text, event_id::text, type, type_version::text, at::text, data::text, meta::text,
            '\\' || prev_hash::text as prev_hash, '\\' || hash::text as hash
     from events where version between 1 and ${BATCH} order by seq desc limit ${BATCH}`,
  )
  writeFileSync(file, rows.map((row) => `${Object.values(row).join('\t')}\n`).join(''), { mode: 0o644 })
  const samples = { ours: [] as number[], copy: [] as number[] }
  for (let round = 0; round < ROUNDS; round++) {
    samples.ours.push((await rate(batchCount, 1, ours)) * BATCH)
    samples.copy.push(
      (await rate(batchCount, 1, () => db.query(`copy copied (${columns}) from '${file}'`))) * BATCH,
    )
  }
  return [
    figure({
      name: `append of ${BATCH} events`,
      against: `COPY of ${BATCH} such rows from a file, one a transaction`,
      unit: 'events/s',
      ours: median(samples.ours),
      baseline: median(samples.copy),
      target: { atLeast: 0.7 },
    }),
  ]
}
