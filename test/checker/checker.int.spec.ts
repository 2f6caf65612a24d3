/**
 * The checker is worth what it catches: one honest history on a real database, broker and host, on which it must say
 * nothing, and one planted fault after another, each of which it must name by verdict, stream and position.
 */

import { execFileSync, spawn } from 'node:child_process'
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { jetstream, jetstreamManager } from '@nats-io/jetstream'
import { headers } from '@nats-io/transport-node'
import pg from 'pg'
import { makeId, Rejected } from '#libs/domain'
import {
  type AppendRequest,
  append,
  createSignerKey,
  hashEvent,
  type JsonObject,
  loadSigner,
  Projector,
  type RecordedEvent,
  readStream,
  rejectCommand,
  Sequencer,
  Subscription,
  sandboxesProjection,
  upsertWorker,
} from '#libs/event-store'
import { EVENTS, ensureStreams, type Messaging, publishEvents } from '#libs/messaging'
import { followExec } from '../../apps/scheduler/open-execs.js'
import { imagesProjection } from '../../apps/snapshotter/images-table.js'
import { snapshotsProjection } from '../../apps/snapshotter/snapshots-table.js'
import { createTestDatabase, type TestDatabase } from '../../libs/event-store/testing.js'
import { command, meta } from '../../libs/event-store/testing-requests.js'
import { startNats, type TestNats } from '../../libs/messaging/testing.js'
import { check, type Evidence } from './check.js'
import type { Verdict } from './finding.js'
import { type HistoryEntry, HistoryFile, readHistory } from './history.js'
import { takeInventory } from './host.js'

const TENANT = 'acme'
const WORKER = id('wk')
const OTHER_WORKER = id('wk')
const [sandbox, living, exec, snapshot, image, volume] = ['sb', 'sb', 'ex', 'sn', 'im', 'vo'].map((prefix) =>
  id(prefix as 'sb'),
) as [string, string, string, string, string, string]
const OUTPUT = Buffer.from('one\ntwo\n')
const RESOURCES = { cpuMillis: 125, memoryBytes: 1024, diskBytes: 10 }
const TABLES =
  'events ledger checkpoints sequencer commands live claims reservations exec_slots workers tenants sandboxes images snapshots open_execs'.split(
    ' ',
  )

let db: TestDatabase
let nats: TestNats
let messaging: Messaging
let home: string
let honest: HistoryEntry[]
let trail: NonNullable<Evidence['trail']>
const systemId = randomBytes(3).toString('hex')

function id(prefix: 'sb' | 'wk'): string {
  return makeId(prefix, Date.now(), randomBytes(10))
}
const sha256 = (data: Buffer) => createHash('sha256').update(data).digest('hex')

beforeAll(async () => {
  home = join(mkdtempSync(join(tmpdir(), 'sandtrail-checker-')), systemId)
  mkdirSync(home)
  ;[db, nats] = await Promise.all([createTestDatabase(), startNats()])
  messaging = await nats.connect()
  await ensureStreams(messaging)
  createSignerKey(join(home, 'trail.key'))
  const signer = loadSigner(join(home, 'trail.key'), 'checker.test')
  trail = { databaseUrl: db.url, trailFile: join(home, 'trail'), publicKey: signer.publicKey }
  const publish = (events: RecordedEvent[]) => publishEvents(messaging, events)
  const sequencer = new Sequencer({ db: db.pool, trailFile: trail.trailFile, signer, publish })
  const types = ['ExecRequested', 'ExecStarted', 'ExecExited']
  const followers = [
    ...[sandboxesProjection, imagesProjection, snapshotsProjection].map(
      (each) => new Projector(db.pool, each),
    ),
    new Subscription({ db: db.pool, name: 'open-execs', types, handle: followExec }),
  ]
  sequencer.start()
  for (const follower of followers) follower.start()
  await liveHonestly()
  await eventually(
    `select from cursors c, ledger l where c.name = 'publisher'
     group by c.position having c.position = max(l.position) and max(l.position) = (select count(*) from events)
       and (select min(position) from projections) = max(l.position)
       and (select position from cursors where name = 'open-execs') = max(l.position)`,
  )
  await sequencer.stop()
  for (const follower of followers) await follower.stop()
  await db.pool.query('create schema honest')
  for (const table of TABLES) await db.pool.query(`create table honest.${table} as table public.${table}`)
}, 60_000)

afterAll(async () => {
  await messaging?.close()
  await nats?.close()
  await db?.drop()
  rmSync(join(home, '..'), { recursive: true, force: true })
})

async function eventually(sql: string): Promise<void> {
  while ((await db.pool.query(sql)).rowCount === 0) await new Promise((resolve) => setTimeout(resolve, 20))
}

/** What two sandboxes do in their lives, as client, log, broker, spool and host have it. */
async function liveHonestly(): Promise<void> {
  const file = new HistoryFile(join(home, 'history.jsonl'))
  const report = {
    incarnation: 'a',
    capacity: { ...RESOURCES, memoryBytes: 1e9, diskBytes: 1e9 },
    poolFreeBytes: 1,
    info: {},
  }
  for (const workerId of [WORKER, OTHER_WORKER]) await upsertWorker(db.pool, { workerId, ...report })

  const versions = new Map<string, number>()
  const write = async (stream: string, events: [string, JsonObject][], more: Partial<AppendRequest> = {}) => {
    const expectedVersion = versions.get(stream) ?? 0
    const version = expectedVersion + events.length
    const ref = more.command ?? command(randomUUID())
    const isFact = more.meta !== undefined
    if (!isFact) file.write({ kind: 'asked', commandId: ref.id, verb: ref.verb })
    const writes = [
      { stream, expectedVersion, events: events.map(([type, data]) => ({ type, typeVersion: 1, data })) },
    ]
    const outcome: JsonObject = isFact ? { ok: true } : { ok: true, stream, version }
    const result = await append(db.pool, {
      tenant: TENANT,
      meta: meta(),
      at: new Date(),
      outcome,
      writes,
      ...more,
      command: ref,
    })
    expect(result.outcome).toBe('appended')
    versions.set(stream, version)
    if (!isFact) file.write({ kind: 'accepted', commandId: ref.id, stream, version })
  }
  const fact = { meta: { ...meta(), actor: `worker:${WORKER}`, workerId: WORKER, epoch: 1 } }

  for (const each of [sandbox, living]) {
    const spec = { image: { imageId: image, ref: 'base' }, name: null, tags: {}, timeoutMs: 300_000 }
    await write(
      each,
      [
        ['SandboxCreated', { spec }],
        ['SandboxPlaced', { workerId: WORKER, epoch: 1, startDeadlineMs: 60_000 }],
      ],
      {
        live: { action: 'open', sandboxId: each, workerId: WORKER, epoch: 1 },
        reservation: { action: 'take', sandboxId: each, workerId: WORKER, resources: RESOURCES },
      },
    )
    await write(each, [['SandboxStarted', { workerId: WORKER, epoch: 1, volumes: [] }]], fact)
  }
  const execSpec = { sandboxId: sandbox, epoch: 1, argv: ['seq'] }
  const slot = (action: 'take' | 'release') => ({ execSlot: { action, execId: exec } })
  await write(exec, [['ExecRequested', { spec: execSpec, startByMs: 90_000 }]], slot('take'))
  const stdout = { bytes: OUTPUT.length, droppedBytes: 0, sha256: sha256(OUTPUT) }
  const stderr = { bytes: 0, droppedBytes: 0, sha256: sha256(Buffer.alloc(0)) }
  await write(
    exec,
    [
      ['ExecStarted', { pid: 7 }],
      ['ExecExited', { exitCode: 3, signal: null, reason: 'exit', stdout, stderr }],
    ],
    { ...fact, ...slot('release') },
  )
  file.write({ kind: 'exec-ended', execId: exec, exitCode: 3, stdout, stderr })
  const output = join(home, 'workers/1/spool', sandbox, exec)
  mkdirSync(output, { recursive: true })
  writeFileSync(join(output, 'stdout.0'), OUTPUT)

  const request = { sandboxId: sandbox, workerId: WORKER, epoch: 1, imageId: image, parent: image }
  await write(snapshot, [['SnapshotRequested', { ...request, deadlineMs: 60_000 }]])
  await write(snapshot, [['SnapshotCompleted', { imageId: image, tookMs: 5 }]])
  const source = { kind: 'snapshot', snapshotId: snapshot, sandboxId: sandbox, parent: image }
  await write(image, [['ImageCreatedFromSnapshot', { source, workerId: WORKER }]])
  await write(volume, [['VolumeCreated', { name: 'v', workerId: WORKER }]])
  await write(volume, [
    ['VolumeCommitRequested', { commitId: 'c-1', sandboxId: sandbox, deadlineMs: 60_000 }],
  ])
  await write(volume, [['VolumeCommitted', { version: 1, commitId: 'c-1', sandboxId: sandbox }]])

  for (const each of [sandbox, living]) {
    const closing = { live: { action: 'closing', sandboxId: each } } as const
    await write(each, [['SandboxStopRequested', { reason: 'terminate', deadlineMs: 30_000 }]], closing)
    await write(each, [['SandboxTerminated', { exitCode: 137, staged: [] }]], {
      ...fact,
      live: { action: 'close', sandboxId: each, workerId: WORKER, epoch: 1 },
      reservation: { action: 'release', sandboxId: each },
    })
    await write(each, [['SandboxCleanedUp', { leftovers: [] }]], fact)
  }
  const ref = command()
  const error = new Rejected('NAME_TAKEN', 'taken')
  await rejectCommand(db.pool, { tenant: TENANT, command: ref, error, meta: meta(), at: new Date() })
  file.write({ kind: 'refused', commandId: ref.id, code: 'NAME_TAKEN' })
  file.close()
  honest = readHistory(file.path)
}

/** What the checker says of this history, with one thing changed. */
async function judge(
  changes: Partial<Evidence> = {},
): Promise<[Verdict, string, string | null, number | null][]> {
  const now = await takeInventory({ id: systemId, dir: home })
  const report = await check({
    db: db.pool,
    history: honest,
    trail,
    messaging,
    spools: [join(home, 'workers/1/spool')],
    host: { before: [], now },
    drained: true,
    ...changes,
  })
  expect(report.verdict).toBe(report.findings.length === 0 ? 'ok' : 'not ok')
  expect(report.events).toBeGreaterThan(0)
  return report.findings.map(({ verdict, rule, stream, version }) => [verdict, rule, stream, version])
}

type Sql = (text: string, values?: unknown[]) => Promise<pg.QueryResult>

/** A superuser's session, its triggers off; what it did is put back after the verdict. */
async function judgeAfter(tamper: (sql: Sql) => Promise<unknown>, changes: Partial<Evidence> = {}) {
  const client = new pg.Client({ connectionString: db.url })
  await client.connect()
  try {
    await client.query('set session_replication_role = replica')
    await tamper((text, values) => client.query(text, values))
    return await judge(changes)
  } finally {
    for (const table of TABLES) await client.query(`delete from ${table}`)
    for (const table of TABLES) await client.query(`insert into ${table} table honest.${table}`)
    await client.end()
  }
}

/** Appends as whoever knows this code would: right hash, right chain, command and all, but no decision behind it. */
async function forge(
  sql: Sql,
  stream: string,
  type: string,
  data: JsonObject,
  by: Partial<RecordedEvent['meta']> = {},
) {
  const last = (await readStream({ query: sql } as never, stream)).at(-1)
  const commandId = `forged-${randomUUID()}`
  const event = {
    tenant: TENANT,
    stream,
    version: (last?.version ?? 0) + 1,
    type,
    typeVersion: 1,
    at: new Date(),
    eventId: randomUUID(),
    data,
    sealed: null,
    meta: { ...meta(), commandId, effects: null, ...by },
    prevHash: last?.hash ?? Buffer.alloc(32),
  }
  await sql(
    `insert into events (tenant, stream, version, event_id, type, type_version, at, data, meta, prev_hash, hash)
     values ($1, $2, $3, $4, $5, 1, $6, $7, $8, $9, $10)`,
    [
      TENANT,
      stream,
      event.version,
      event.eventId,
      type,
      event.at,
      data,
      event.meta,
      event.prevHash,
      hashEvent(event),
    ],
  )
  await sql(
    `insert into commands (tenant, command_id, verb, hash, outcome, rejected, attempt, expires_at)
     values ($1, $2, 'sandbox.create', decode(repeat('00', 32), 'hex'), '{"ok":true}', false, gen_random_uuid(), now())`,
    [TENANT, event.meta.commandId],
  )
  return event
}
/** The forged event is in the log alone: what says that it has no position is not what a test is about. */
const LOG_ONLY = { trail: undefined, messaging: undefined, drained: false }

test('an honest history is ok', async () => {
  expect(await judge()).toEqual([])
})

describe('lost:', () => {
  test('an event that was removed, wherever it is asked for', async () => {
    const found = await judgeAfter((sql) =>
      sql('delete from events where stream = $1 and version = 3', [sandbox]),
    )
    expect(found).toContainEqual(['lost', 'I-4', sandbox, 3])
    expect(found).toContainEqual(['lost', 'I-6', sandbox, 3])
    expect(found.map(([verdict]) => verdict)).not.toContain('leaked')
  })

  test('the last event of a stream, which leaves no gap', async () => {
    const found = await judgeAfter((sql) =>
      sql('delete from events where stream = $1 and version = 1', [image]),
    )
    expect(found).toContainEqual(['lost', 'I-1', image, 1])
  })

  test('a promise that the database never heard of', async () => {
    const commandId = randomUUID()
    const promise: HistoryEntry = { kind: 'accepted', atMs: 0, commandId, stream: id('sb'), version: 2 }
    expect(await judge({ history: [...honest, promise] })).toEqual([['lost', 'I-1', promise.stream, 2]])
  })

  test('a stored command whose row is gone', async () => {
    const found = await judgeAfter((sql) =>
      sql(`delete from commands where outcome ->> 'stream' = $1`, [volume]),
    )
    expect(found).toContainEqual(['lost', 'I-1', volume, 1])
    expect(found).toContainEqual(['phantom', 'I-2', volume, 1])
  })

  test('a row of the ledger', async () => {
    const found = await judgeAfter((sql) =>
      sql('delete from ledger where stream = $1 and version = 2', [exec]),
    )
    expect(found).toContainEqual(['lost', 'I-14', null, null])
    expect(found).toContainEqual(['stuck', 'I-14', exec, 2])
  })

  test('output that is shorter than the log says', async () => {
    const path = join(home, 'workers/1/spool', sandbox, exec, 'stdout.0')
    writeFileSync(path, OUTPUT.subarray(1))
    const found = await judge()
    writeFileSync(path, OUTPUT)
    expect(found).toEqual([['lost', 'I-10', exec, 3]])
  })

  test('output that the client did not get to see', async () => {
    const short = honest.map((entry) =>
      entry.kind === 'exec-ended'
        ? { ...entry, stdout: { bytes: 1, sha256: sha256(OUTPUT.subarray(0, 1)) } }
        : entry,
    )
    expect(await judge({ history: short })).toEqual([['lost', 'I-3', exec, 3]])
  })

  test('a row of a read model', async () => {
    const found = await judgeAfter((sql) => sql('delete from sandboxes where sandbox_id = $1', [sandbox]))
    expect(found).toEqual([['lost', 'I-9', sandbox, null]])
  })

  test('an event that a follower was not shown', async () => {
    const seen = (positions: number[]) => judge({ history: [...honest, ...followed(positions)] })
    expect(await seen([1, 2, 3])).toEqual([])
    expect(await seen([1, 3])).toEqual([['lost', 'I-14', sandbox, 2]])
    expect(await seen([1, 3, 2])).toEqual([['lost', 'I-14', sandbox, 2]])
  })

  test('a message that the broker has lost', async () => {
    const nats = await otherBroker()
    const jsm = await jetstreamManager(nats.messaging.connection)
    await jsm.streams.deleteMessage(EVENTS, 3)
    const found = await judge({ messaging: nats.messaging })
    await nats.close()
    expect(found).toEqual([['lost', 'I-14', sandbox, 3]])
  })
})

describe('duplicated:', () => {
  test('a second terminal event', async () => {
    const by = { workerId: WORKER, epoch: 1 }
    const found = await judgeAfter(
      (sql) =>
        forge(
          sql,
          sandbox,
          'SandboxFailed',
          { exitCode: 1, step: 'x', code: 'x', message: 'x', staged: [] },
          by,
        ),
      LOG_ONLY,
    )
    expect(found).toEqual([['duplicated', 'I-1', sandbox, 7]])
  })

  test('an exec that exits once more', async () => {
    const { rows } = await db.pool.query('select data from events where stream = $1 and version = 3', [exec])
    const found = await judgeAfter(
      (sql) => forge(sql, exec, 'ExecExited', rows[0].data, { workerId: WORKER, epoch: 1 }),
      LOG_ONLY,
    )
    expect(found).toContainEqual(['duplicated', 'I-1', exec, 4])
  })

  test('two sandboxes of one command', async () => {
    const twin = id('sb')
    const found = await judgeAfter(async (sql) => {
      const { rows } = await sql(
        `select meta ->> 'commandId' as "commandId" from events where stream = $1 and version = 1`,
        [sandbox],
      )
      await forge(sql, twin, 'SandboxCreated', {}, { commandId: rows[0].commandId }).catch(() => {}) // The command's row is there.
    }, LOG_ONLY)
    expect(found).toContainEqual(['duplicated', 'I-1', twin, 1])
  })

  test('one command that was accepted as two things', async () => {
    const first = honest.find((entry) => entry.kind === 'accepted')!
    const found = await judge({ history: [...honest, { ...first, stream: exec, version: 1 }] })
    expect(found).toEqual([['duplicated', 'I-1', exec, 1]])
  })

  test("a volume's version", async () => {
    const found = await judgeAfter(
      (sql) => forge(sql, volume, 'VolumeCommitted', { version: 1, commitId: 'c-1', sandboxId: sandbox }),
      LOG_ONLY,
    )
    expect(found).toContainEqual(['duplicated', 'I-13', volume, 4])
  })

  test('an event that was published again, and one that a follower saw again', async () => {
    const nats = await otherBroker()
    const [event] = await readStream(db.pool, exec)
    await republish(nats.messaging, event!, {})
    expect(await judge({ messaging: nats.messaging })).toEqual([['duplicated', 'I-14', exec, 1]])
    await nats.close()
    expect(await judge({ history: [...honest, ...followed([1, 2, 2])] })).toEqual([
      ['duplicated', 'I-14', sandbox, 2],
    ])
  })
})

describe('phantom:', () => {
  test('an event that was altered', async () => {
    const found = await judgeAfter((sql) =>
      sql(`update events set data = jsonb_set(data, '{exitCode}', '0') where stream = $1 and version = 3`, [
        exec,
      ]),
    )
    expect(found).toContainEqual(['phantom', 'I-6', exec, 3])
    expect(found).toContainEqual(['phantom', 'I-3', exec, 3])
  })

  test('a step that the lifecycle does not have', async () => {
    const found = await judgeAfter(
      (sql) => forge(sql, sandbox, 'SandboxPlaced', { workerId: WORKER, epoch: 2 }),
      LOG_ONLY,
    )
    expect(found).toContainEqual(['phantom', 'I-4', sandbox, 7])
  })

  for (const [what, by] of Object.entries({
    'another worker': { workerId: OTHER_WORKER, epoch: 1 },
    'an older epoch': { workerId: WORKER, epoch: 0 },
  })) {
    test(`a fact of ${what}`, async () => {
      const found = await judgeAfter(
        (sql) => forge(sql, sandbox, 'SandboxCleanedUp', { leftovers: [] }, by),
        LOG_ONLY,
      )
      expect(found).toEqual([['phantom', 'I-5', sandbox, 7]])
    })
  }

  test('an effect of a command that was refused', async () => {
    const forged = await judgeAfter((sql) =>
      sql(`update commands set rejected = true where outcome ->> 'stream' = $1`, [image]),
    )
    expect(forged).toContainEqual(['phantom', 'I-2', image, 1])
    const first = honest.find((entry) => entry.kind === 'accepted')!
    const refused: HistoryEntry = { kind: 'refused', atMs: 0, commandId: first.commandId, code: 'NAME_TAKEN' }
    expect(await judge({ history: [...honest, refused] })).toEqual([['phantom', 'I-2', sandbox, 1]])
  })

  test('an exit that only the client saw', async () => {
    const other = id('sb').replace('sb', 'ex')
    const output = { bytes: 0, sha256: sha256(Buffer.alloc(0)) }
    const seen: HistoryEntry = {
      kind: 'exec-ended',
      atMs: 0,
      execId: other,
      exitCode: 0,
      stdout: output,
      stderr: output,
    }
    expect(await judge({ history: [...honest, seen] })).toEqual([['phantom', 'I-3', other, null]])
  })

  test('output with another content', async () => {
    const path = join(home, 'workers/1/spool', sandbox, exec, 'stdout.0')
    writeFileSync(path, OUTPUT.toString().toUpperCase())
    const found = await judge()
    writeFileSync(path, OUTPUT)
    expect(found).toEqual([['phantom', 'I-10', exec, 3]])
  })

  test('rows of read models and counters that no event made', async () => {
    const [changed, invented] = [
      await judgeAfter((sql) =>
        sql(`update sandboxes set state = 'running' where sandbox_id = $1`, [sandbox]),
      ),
      await judgeAfter((sql) =>
        sql(`insert into open_execs (exec_id, tenant, sandbox_id) values ($1, 'acme', $2)`, [exec, sandbox]),
      ),
    ]
    expect(changed).toEqual([['phantom', 'I-9', sandbox, null]])
    expect(invented).toEqual([['phantom', 'I-9', exec, null]])
    const counter = await judgeAfter((sql) =>
      sql('update workers set reserved_memory_bytes = 1 where worker_id = $1', [WORKER]),
    )
    expect(counter).toEqual([['phantom', 'I-8', null, null]])
  })

  test('a message of the broker that the ledger does not have', async () => {
    const nats = await otherBroker()
    const [event] = await readStream(db.pool, exec)
    await republish(nats.messaging, event!, { position: 10_000n })
    const found = await judge({ messaging: nats.messaging })
    await nats.close()
    expect(found).toEqual([['phantom', 'I-14', exec, 1]])
  })

  test('a trail file that has lost a line', async () => {
    const trailFile = join(home, 'cut')
    copyFileSync(trail.trailFile, trailFile)
    execFileSync('sed', ['-i', '2d', trailFile])
    expect(await judge({ trail: { ...trail, trailFile } })).toContainEqual(['lost', 'I-6', sandbox, 2])
  })
})

describe('stuck:', () => {
  test('a sandbox without its end', async () => {
    const found = await judgeAfter(
      (sql) => sql('delete from events where stream = $1 and version >= 5', [living]),
      { trail: undefined, messaging: undefined },
    )
    expect(found).toContainEqual(['stuck', 'I-1', living, 4])
  })

  test('only once its time is up, while the system is not drained', async () => {
    const cut = async (sql: Sql) => {
      await sql('delete from events where stream = $1 and version >= 2', [exec])
      await sql('update events set at = now() where stream = $1', [exec])
    }
    const streamOf = (found: Awaited<ReturnType<typeof judge>>) =>
      found.filter(([verdict, , stream]) => verdict === 'stuck' && stream === exec)
    expect(streamOf(await judgeAfter(cut, LOG_ONLY))).toEqual([])
    const late = async (sql: Sql) => {
      await cut(sql)
      await sql(`update events set at = at - interval '1 hour' where stream = $1`, [exec])
    }
    expect(streamOf(await judgeAfter(late, LOG_ONLY))).toEqual([['stuck', 'I-1', exec, 1]])
  })

  test('a commit of a volume that never became a version', async () => {
    const found = await judgeAfter(
      (sql) => sql('delete from events where stream = $1 and version = 3', [volume]),
      { trail: undefined, messaging: undefined },
    )
    expect(found).toContainEqual(['stuck', 'I-1', volume, 2])
  })

  test('a read model that stands still', async () => {
    const client = await db.pool.connect()
    await client.query(`update projections set position = 1 where name = 'images'`)
    const found = await judge()
    await client.query(
      `update projections set position = (select max(position) from ledger) where name = 'images'`,
    )
    client.release()
    expect(found).toEqual([['stuck', 'I-9', null, null]])
  }, 30_000)

  test('a command that ended as a dead letter', async () => {
    const nats = await otherBroker()
    await jetstream(nats.messaging.connection).publish('dead.v1.acme.cmd.sandbox.create', '{}', {
      headers: headers(),
    })
    const found = await judge({ messaging: nats.messaging })
    await nats.close()
    expect(found).toEqual([['stuck', 'I-1', null, null]])
  })
})

describe('leaked:', () => {
  const undo: (() => unknown)[] = []
  afterEach(async () => {
    for (const step of undo.splice(0).reverse()) await step()
  })

  const planted: Record<string, { rule: string; plant: () => unknown }> = {
    'a record of an ended sandbox': {
      rule: 'I-7',
      plant: () => {
        const dir = join(home, 'workers/1/sandboxes', sandbox)
        mkdirSync(dir, { recursive: true })
        undo.push(() => rmSync(dir, { recursive: true }))
      },
    },
    'its root in the pool': {
      rule: 'I-7',
      plant: () => {
        const dir = join(home, 'pools/1/roots', sandbox)
        mkdirSync(dir, { recursive: true })
        undo.push(() => rmSync(dir, { recursive: true }))
      },
    },
    'its mount': {
      rule: 'I-7',
      plant: () => {
        const point = join(home, sandbox)
        mkdirSync(point)
        undo.push(() => rmdirSync(point))
        execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', point])
        undo.push(() => execFileSync('umount', [point]))
      },
    },
    'its cgroup': {
      rule: 'I-7',
      plant: () => {
        const hierarchy = existsSync('/sys/fs/cgroup/pids') ? '/sys/fs/cgroup/pids' : '/sys/fs/cgroup'
        const parent = `${hierarchy}/sandtrail-${systemId}01`
        mkdirSync(join(parent, sandbox), { recursive: true })
        undo.push(
          () => rmdirSync(parent),
          () => rmdirSync(join(parent, sandbox)),
        )
      },
    },
    'its process': {
      rule: 'I-7',
      plant: async () => {
        const child = spawn('sleep', ['60'], {
          argv0: `runsc ${home}/${sandbox}`,
          env: { _SANDTRAIL_SYSTEM: home },
          stdio: 'ignore',
        })
        await once(child, 'spawn')
        undo.push(async () => {
          child.kill('SIGKILL')
          await once(child, 'exit')
        })
      },
    },
    'a network namespace': {
      rule: 'I-15',
      plant: () => {
        const name = `st-${systemId}01-7`
        execFileSync('ip', ['netns', 'add', name])
        undo.push(() => execFileSync('ip', ['netns', 'delete', name]))
      },
    },
    'a link': {
      rule: 'I-15',
      plant: () => {
        const name = `st-${systemId}01`
        execFileSync('ip', ['link', 'add', name, 'type', 'bridge'])
        undo.push(() => execFileSync('ip', ['link', 'delete', name]))
      },
    },
    'a table of nftables': {
      rule: 'I-15',
      plant: () => {
        const name = `st-${systemId}01`
        execFileSync('nft', ['add', 'table', 'ip', name])
        undo.push(() => execFileSync('nft', ['delete', 'table', 'ip', name]))
      },
    },
    'a loop device': {
      rule: 'I-15',
      plant: () => {
        const file = join(home, 'disk.img')
        writeFileSync(file, Buffer.alloc(1024 ** 2))
        undo.push(() => rmSync(file))
        const device = execFileSync('losetup', ['--find', '--show', file], { encoding: 'utf8' }).trim()
        undo.push(() => execFileSync('losetup', ['--detach', device]))
      },
    },
  }
  for (const [what, { rule, plant }] of Object.entries(planted)) {
    test(what, async () => {
      await plant()
      const found = await judge()
      const stream = rule === 'I-7' ? sandbox : null
      expect(found).toContainEqual(['leaked', rule, stream, null])
      expect(new Set(found.map(([verdict]) => verdict))).toEqual(new Set(['leaked']))
    })
  }

  test('what was there before and is gone', async () => {
    const before = [JSON.stringify({ kind: 'mount', name: `${home}/pools/1` })]
    expect(await judge({ host: { before, now: [] } })).toEqual([['lost', 'I-15', null, null]])
  })

  test('what belongs to a living sandbox is no leak', async () => {
    const dir = join(home, 'workers/1/sandboxes', living)
    mkdirSync(dir, { recursive: true })
    undo.push(() => rmSync(dir, { recursive: true }))
    const found = await judgeAfter(
      (sql) => sql('delete from events where stream = $1 and version >= 4', [living]),
      LOG_ONLY,
    )
    expect(found.map(([verdict]) => verdict)).not.toContain('leaked')
  })
})

/** What a follower of the tenant's events saw, by position. */
function followed(positions: number[]): HistoryEntry[] {
  const events: [string, number, string][] = [
    [sandbox, 1, 'SandboxCreated'],
    [sandbox, 2, 'SandboxPlaced'],
    [sandbox, 3, 'SandboxStarted'],
  ]
  return positions.map((position) => {
    const [stream, version, type] = events[position - 1]!
    return { kind: 'event', atMs: 0, follower: 'one', position, stream, version, type }
  })
}

/** A broker with the same events, to be tampered with. */
async function otherBroker(): Promise<{ messaging: Messaging; close(): Promise<void> }> {
  const nats = await startNats()
  const messaging = await nats.connect()
  await ensureStreams(messaging)
  const { rows } = await db.pool.query('select stream, version from ledger order by position')
  const events = await Promise.all(
    rows.map(({ stream, version }) => readStream(db.pool, stream, { fromVersion: version, limit: 1 })),
  )
  await publishEvents(messaging, events.flat())
  return {
    messaging,
    async close() {
      await messaging.close()
      await nats.close()
    },
  }
}

/** With a message id of its own, so that the broker does not drop it. */
async function republish(
  to: Messaging,
  event: RecordedEvent,
  changes: Partial<RecordedEvent>,
): Promise<void> {
  await publishEvents(to, [{ ...event, ...changes, eventId: randomUUID() }])
}
