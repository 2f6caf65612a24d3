import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { append } from '../append.js'
import { lastPosition, readPage } from '../read.js'
import { createTestDatabase, type TestDatabase } from '../testing.js'
import { event, request, sandboxId } from '../testing-requests.js'
import type { RecordedEvent } from '../types.js'
import { type CheckpointSigner, createSignerKey, loadSigner, openCheckpoint } from './checkpoint-note.js'
import { latestCheckpoint } from './checkpoints.js'
import { MerkleFrontier } from './merkle.js'
import { republishFrom } from './publisher.js'
import { Sequencer } from './sequencer.js'
import { entryLine, parseLine } from './trail-file.js'

const dir = mkdtempSync(join(tmpdir(), 'sandtrail-sequencer-'))
const keyFile = join(dir, 'key.pem')
createSignerKey(keyFile)
const signer: CheckpointSigner = loadSigner(keyFile, 'test.log')

let db: TestDatabase
let trailFile: string
let files = 0
const running: Sequencer[] = []
const children: ChildProcess[] = []

beforeAll(async () => {
  db = await createTestDatabase({ max: 30 })
})
beforeEach(async () => {
  trailFile = join(dir, `trail-${files++}`)
  await db.pool.query(`
    set session_replication_role = replica;
    truncate events, ledger, checkpoints, cursors;
    update sequencer set term = 0, leader = null, heartbeat_at = '-infinity', position = 0, floor = 0;
    set session_replication_role = origin;
  `)
})
afterEach(async () => {
  await Promise.all(running.splice(0).map((sequencer) => sequencer.stop()))
  for (const child of children.splice(0)) {
    child.kill('SIGCONT')
    child.kill('SIGKILL')
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  }
})
afterAll(async () => {
  await db.drop()
  rmSync(dir, { recursive: true })
})

function startSequencer(published: RecordedEvent[] = [], file = trailFile): Sequencer {
  const sequencer = new Sequencer({
    db: db.pool,
    trailFile: file,
    signer,
    publish: async (events) => {
      published.push(...events)
    },
    onError: (error) => console.error(error),
  })
  running.push(sequencer)
  sequencer.start()
  return sequencer
}

async function stopAll(): Promise<void> {
  await Promise.all(running.splice(0).map((sequencer) => sequencer.stop()))
}

async function until(condition: () => Promise<boolean> | boolean, ms = 15_000): Promise<void> {
  const deadline = Date.now() + ms
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${condition}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

const appendSome = (n: number) => Promise.all(Array.from({ length: n }, () => append(db.pool, request())))
const placed = async () => Number(await lastPosition(db.pool))
const lines = (file = trailFile) =>
  readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map(parseLine)
const entries = (file = trailFile) => lines(file).flatMap((line) => ('entry' in line ? [line.entry] : []))

test('positions are gapless, in the file as in the ledger, under a signed checkpoint, and published in order', async () => {
  const published: RecordedEvent[] = []
  const sequencer = startSequencer(published)
  await appendSome(50)
  sequencer.nudge()
  await until(async () => published.length === 50)
  await stopAll()

  const { events } = await readPage(db.pool)
  expect(events.map((each) => Number(each.position))).toEqual(Array.from({ length: 50 }, (_, i) => i + 1))
  expect(published).toEqual(events)
  expect(entries()).toEqual(
    events.map(({ position, stream, version, hash }) => ({
      position: Number(position),
      stream,
      version,
      hash: hash.toString('hex'),
    })),
  )
  const tree = new MerkleFrontier()
  for (const entry of entries()) tree.append(entryLine(entry))
  const checkpoint = await latestCheckpoint(db.pool)
  expect(openCheckpoint(checkpoint?.note ?? '', signer.publicKey)).toEqual({
    origin: 'test.log',
    size: 50,
    root: tree.root(),
  })
  expect(lines()).toContainEqual({ checkpoint: checkpoint?.note })
})

test('a checkpoint covers every event within a second, without any nudge', async () => {
  startSequencer()
  await until(() => running[0]?.isLeader === true)
  for (let i = 0; i < 4; i++) {
    await appendSome(1)
    const at = Date.now()
    const wanted = i + 1
    await until(async () => ((await latestCheckpoint(db.pool))?.size ?? 0) >= wanted)
    // 0.95 s by design; the rest is for a machine that does other things.
    expect(Date.now() - at).toBeLessThan(5_000)
  }
})

test('a long transaction elsewhere stalls nobody, and its own events come when it commits', async () => {
  startSequencer()
  const long = await db.pool.connect()
  await long.query('begin')
  await long.query('set local idle_in_transaction_session_timeout = 0')
  await long.query(`
    insert into events (tenant, stream, version, event_id, type, type_version, at, data, meta, prev_hash, hash)
    values ('acme', 'late', 1, gen_random_uuid(), 'Late', 1, now(), '{}', '{}',
            decode(repeat('00', 32), 'hex'), decode(repeat('01', 32), 'hex'))`)
  for (let round = 1; round <= 3; round++) {
    await appendSome(10)
    running[0]?.nudge()
    await until(async () => (await placed()) === round * 10)
  }
  await long.query('commit')
  long.release()
  await until(async () => (await placed()) === 31)
  const [last] = (await readPage(db.pool, { afterPosition: 30n })).events
  expect(last).toMatchObject({ stream: 'late', position: 31n })
})

test('property: whatever commits or rolls back in whatever order, a position once seen is never followed by a smaller one', async () => {
  startSequencer()
  const seen: bigint[] = []
  let reading = true
  const reader = (async () => {
    while (reading) {
      const { events } = await readPage(db.pool, { afterPosition: seen.at(-1) ?? 0n, limit: 50 })
      for (const each of events) seen.push(each.position as bigint)
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
  })()
  let expected = 0
  const writer = fc.record({
    events: fc.integer({ min: 1, max: 4 }),
    holdMs: fc.integer({ min: 0, max: 15 }),
    commit: fc.boolean(),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(writer, { minLength: 1, maxLength: 12 }), async (writers) => {
      await Promise.all(
        writers.map(async ({ events, holdMs, commit }) => {
          const tx = await db.pool.connect()
          await tx.query('begin')
          for (let version = 1, stream = sandboxId(); version <= events; version++) {
            await tx.query(
              `insert into events (tenant, stream, version, event_id, type, type_version, at, data, meta, prev_hash, hash)
               values ('acme', $1, $2, gen_random_uuid(), 'T', 1, now(), '{}', '{}', $3, $3)`,
              [stream, version, Buffer.alloc(32)],
            )
            if (version === 1) await new Promise((resolve) => setTimeout(resolve, holdMs))
          }
          await tx.query(commit ? 'commit' : 'rollback')
          tx.release()
          if (commit) expected += events
          running[0]?.nudge()
        }),
      )
    }),
    { numRuns: 40 },
  )
  await until(async () => (await placed()) === expected)
  await until(() => seen.length === expected)
  reading = false
  await reader
  expect(seen).toEqual(Array.from({ length: expected }, (_, i) => BigInt(i + 1)))
  const { rows } = await db.pool.query('select floor from sequencer')
  expect(Number(rows[0].floor)).toBeGreaterThan(0)
  // Versions of one stream stay in order.
  const { rows: disorder } = await db.pool.query(
    `select 1 from ledger a join ledger b on a.stream = b.stream and a.version < b.version and a.position > b.position`,
  )
  expect(disorder).toEqual([])
}, 60_000)

test('a new leader first writes to its file what is missing, also behind a torn line', async () => {
  startSequencer()
  await appendSome(5)
  await until(async () => (await placed()) === 5)
  await stopAll()
  const whole = entries()
  const text = readFileSync(trailFile, 'utf8')
  truncateSync(trailFile, text.indexOf('"position":4') + 20)

  startSequencer()
  await appendSome(1)
  await until(async () => (await placed()) === 6)
  await stopAll()
  expect(entries().slice(0, 5)).toEqual(whole)
  expect(entries().map((entry) => entry.position)).toEqual([1, 2, 3, 4, 5, 6])
  expect(lines().filter((line) => 'torn' in line)).toHaveLength(1)

  const elsewhere = join(dir, 'elsewhere')
  startSequencer([], elsewhere)
  await until(() => running[0]?.isLeader === true)
  await stopAll()
  expect(entries(elsewhere)).toEqual(entries())
})

test('a file that knows more than the ledger stops the sequencer: the database was set back', async () => {
  startSequencer()
  await appendSome(2)
  await until(async () => (await placed()) === 2)
  await stopAll()
  const [first] = entries()
  writeFileSync(trailFile, `${entryLine({ ...first, position: 9 } as never)}\n`, { flag: 'a' })
  const errors: unknown[] = []
  const sequencer = new Sequencer({
    db: db.pool,
    trailFile,
    signer,
    publish: async () => {},
    onError: (error) => errors.push(error),
  })
  running.push(sequencer)
  sequencer.start()
  await until(() => errors.length > 0)
  expect(errors[0]).toMatchObject({ code: 'INTERNAL' })
  expect(sequencer.isLeader).toBe(false)
})

test('events that the broker did not take are published again, and all of them when its store was lost', async () => {
  const taken: RecordedEvent[] = []
  let away = true
  const sequencer = new Sequencer({
    db: db.pool,
    trailFile,
    signer,
    publish: async (events) => {
      if (away) throw new Error('no broker')
      taken.push(...events)
    },
  })
  running.push(sequencer)
  sequencer.start()
  await appendSome(3)
  await until(async () => (await placed()) === 3)
  expect(taken).toEqual([])
  away = false
  await until(() => taken.length === 3)

  await republishFrom(db.pool, 2n)
  await until(() => taken.length >= 5)
  // A call that comes before the cursor has moved brings all of them again.
  expect([...new Set(taken.map((each) => each.position))]).toEqual([1n, 2n, 3n])
  expect(taken.slice(-2).map((each) => each.position)).toEqual([2n, 3n])
})

test('a store that is lost while a batch is under way gets that batch again', async () => {
  const batches: bigint[][] = []
  let finish: () => void = () => {}
  const sequencer = new Sequencer({
    db: db.pool,
    trailFile,
    signer,
    publish: (events) => {
      batches.push(events.map((each) => each.position as bigint))
      return batches.length === 1 ? new Promise((resolve) => (finish = resolve)) : Promise.resolve()
    },
  })
  running.push(sequencer)
  sequencer.start()
  await appendSome(3)
  await until(() => batches.length === 1)
  await republishFrom(db.pool, 1n)
  finish()
  await until(() => batches.length === 2)
  expect(batches[1]?.slice(0, 1)).toEqual([1n])
})

/** A sequencer in a process of its own, which can be paused and killed. */
async function spawnSequencer(): Promise<ChildProcess> {
  const script = `
    const { Sequencer, loadSigner, openDatabase } = await import('#libs/event-store')
    const sequencer = new Sequencer({
      db: openDatabase({ url: process.env.PG_URL, max: 4 }),
      trailFile: process.env.TRAIL_FILE,
      signer: loadSigner(process.env.KEY_FILE, 'test.log'),
      publish: async () => {},
      onError: (error) => console.log('error', error.message),
    })
    sequencer.start()
    setInterval(() => sequencer.isLeader && console.log('leader'), 20)
  `
  const args = ['--import', 'tsx', '-C', 'source', '--input-type=module', '-e', script]
  const env = { ...process.env, PG_URL: db.url, TRAIL_FILE: trailFile, KEY_FILE: keyFile, NODE_OPTIONS: '' }
  const child = spawn(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'inherit'] })
  children.push(child)
  return child
}

const term = async () => Number((await db.pool.query('select term from sequencer')).rows[0].term)

test('a paused leader is replaced, and places nothing when it comes back', async () => {
  const paused = await spawnSequencer()
  await once(paused.stdout as NodeJS.ReadableStream, 'data')
  await appendSome(5)
  await until(async () => (await placed()) === 5)
  paused.kill('SIGSTOP')

  startSequencer()
  await appendSome(5)
  await until(async () => (await placed()) === 10)
  const newTerm = await term()
  paused.kill('SIGCONT')
  const said = once(paused, 'exit').then(() => 'exit')
  for (let i = 0; i < 20; i++) {
    await appendSome(2)
    running[0]?.nudge()
  }
  await until(async () => (await placed()) === 50)
  paused.kill('SIGKILL')
  expect(await said).toBe('exit')
  expect(await term()).toBe(newTerm)
  const { rows } = await db.pool.query('select distinct term from ledger where position > 5')
  expect(rows).toEqual([{ term: String(newTerm) }])
  await stopAll()
  // Lines may come twice, never with another content.
  const byPosition = new Map<number, string>()
  for (const entry of entries()) {
    expect(byPosition.get(entry.position) ?? entryLine(entry)).toBe(entryLine(entry))
    byPosition.set(entry.position, entryLine(entry))
  }
  expect([...byPosition.keys()]).toEqual(Array.from({ length: 50 }, (_, i) => i + 1))
}, 60_000)

test('a killed leader is replaced within seconds, and nothing is lost or placed twice', async () => {
  const killed = await spawnSequencer()
  await once(killed.stdout as NodeJS.ReadableStream, 'data')
  const writing = (async () => {
    for (let i = 0; i < 20; i++) await appendSome(5)
  })()
  await until(async () => (await placed()) > 0)
  killed.kill('SIGKILL')
  startSequencer()
  await writing
  await until(async () => running[0]?.isLeader === true && (await placed()) === 100)
  await stopAll()
  expect(entries().map((entry) => entry.position)).toEqual(Array.from({ length: 100 }, (_, i) => i + 1))
  const { rows } = await db.pool.query('select count(distinct seq)::integer as n from ledger')
  expect(rows).toEqual([{ n: 100 }])
}, 60_000)

test('the broker may be slow: placing does not wait for it', async () => {
  const sequencer = new Sequencer({
    db: db.pool,
    trailFile,
    signer,
    publish: () => new Promise((resolve) => setTimeout(resolve, 500)),
  })
  running.push(sequencer)
  sequencer.start()
  await appendSome(1)
  await until(async () => (await placed()) === 1)
  await append(
    db.pool,
    request({ writes: [{ stream: sandboxId(), expectedVersion: 0, events: [event(), event()] }] }),
  )
  sequencer.nudge()
  await until(async () => (await placed()) === 3)
})
