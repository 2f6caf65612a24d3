import { randomBytes } from 'node:crypto'
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import pg from 'pg'
import { Rejected } from '#libs/domain'
import { ensureLogin } from '#migrations'
import { append } from '../append.js'
import { hashEvent } from '../envelope.js'
import { createSignerKey, loadSigner } from '../ledger/checkpoint-note.js'
import { Sequencer } from '../ledger/sequencer.js'
import { readStream } from '../read.js'
import { rejectCommand } from '../reject.js'
import { upsertWorker } from '../tables/workers.js'
import { createTestDatabase, type TestDatabase } from '../testing.js'
import { command, event, meta, request, sandboxId } from '../testing-requests.js'
import type { RecordedEvent } from '../types.js'
import type { Problem } from './report.js'
import { verifyTrail } from './verify.js'

const dir = mkdtempSync(join(tmpdir(), 'sandtrail-verify-'))
const keyFile = join(dir, 'key')
createSignerKey(keyFile)
const signer = loadSigner(keyFile, 'verify.test')
const trail = join(dir, 'trail')

/** One honest history; each test tampers with it, and it is put back. */
let base: TestDatabase
const living = sandboxId()
const ended = sandboxId()
const EVENTS = 14
const TABLES =
  'events ledger checkpoints sequencer live claims reservations exec_slots workers tenants'.split(' ')

beforeAll(async () => {
  base = await createTestDatabase()
  const db = base.pool
  const sequencer = new Sequencer({ db, trailFile: trail, signer, publish: async () => {} })
  sequencer.start()
  const resources = { cpuMillis: 125, memoryBytes: 1024, diskBytes: 10 }
  const report = {
    workerId: 'wk-1',
    incarnation: 'a',
    capacity: { ...resources, memoryBytes: 1e9, diskBytes: 1e9 },
  }
  await upsertWorker(db, { ...report, poolFreeBytes: 1, info: {} })
  for (const id of [living, ended]) {
    await append(
      db,
      request({
        writes: [
          {
            stream: id,
            expectedVersion: 0,
            events: [event('Created', { n: 0.1, text: '"1.50"' }), event('Placed')],
          },
        ],
        live: { action: 'open', sandboxId: id, workerId: 'wk-1', epoch: 1 },
        claims: { take: [{ kind: 'sandbox-name', key: id, holder: id }] },
        reservation: { action: 'take', sandboxId: id, workerId: 'wk-1', resources },
      }),
    )
    for (let version = 2; version < 6; version++) {
      const sealed = version === 3 ? randomBytes(40) : null
      const events = [{ ...event('Happened', { version }), sealed }]
      await append(db, request({ writes: [{ stream: id, expectedVersion: version, events }] }))
    }
  }
  await append(
    db,
    request({
      writes: [{ stream: ended, expectedVersion: 6, events: [event('Ended')] }],
      live: { action: 'close', sandboxId: ended, epoch: 1 },
      claims: { release: [{ kind: 'sandbox-name', key: ended, holder: ended }] },
      reservation: { action: 'release', sandboxId: ended },
    }),
  )
  const error = new Rejected('NAME_TAKEN', 'taken')
  await rejectCommand(db, { tenant: 'acme', command: command(), error, meta: meta(), at: new Date() })
  await sequencer.stop()
  await ensureLogin(base.url, { user: 'verify_auditor', password: 'verify', role: 'auditor' })
  await db.query('create schema honest')
  for (const table of TABLES) await db.query(`create table honest.${table} as table ${table}`)
})
afterAll(async () => {
  await base.drop()
  rmSync(dir, { recursive: true })
})

type Sql = (text: string, values?: unknown[]) => Promise<pg.QueryResult>

/** A superuser's session on the history, its triggers off, and the verification of what he leaves. */
async function tampered(
  tamper: (sql: Sql, trailFile: string) => Promise<unknown>,
  options: { stream?: string } = {},
) {
  const trailFile = join(dir, randomBytes(6).toString('hex'))
  copyFileSync(trail, trailFile)
  const client = new pg.Client({ connectionString: base.url })
  await client.connect()
  try {
    await client.query('set session_replication_role = replica')
    await tamper((text, values) => client.query(text, values), trailFile)
    return await verifyTrail({ databaseUrl: base.url, trailFile, publicKey: signer.publicKey, ...options })
  } finally {
    for (const table of TABLES) await client.query(`delete from ${table}`)
    for (const table of TABLES) await client.query(`insert into ${table} table honest.${table}`)
    await client.end()
  }
}

const named = (problems: Problem[]) => problems.map(({ kind, stream, version }) => [kind, stream, version])

/** What a superuser would do who knows this code: rewrite a stream from one version on, every hash right. */
async function rewrite(sql: Sql, stream: string, fromVersion: number, alsoLedger: boolean): Promise<void> {
  const events: RecordedEvent[] = await readStream({ query: sql } as never, stream)
  let prevHash = events[fromVersion - 2]?.hash ?? Buffer.alloc(32)
  for (const each of events.slice(fromVersion - 1)) {
    const changed = { ...each, data: { ...each.data, forged: true }, prevHash }
    prevHash = hashEvent(changed)
    const values = [stream, each.version, JSON.stringify(changed.data), changed.prevHash, prevHash]
    await sql(
      'update events set data = $3, prev_hash = $4, hash = $5 where stream = $1 and version = $2',
      values,
    )
    if (alsoLedger) {
      await sql('update ledger set hash = $3 where stream = $1 and version = $2', [
        stream,
        each.version,
        prevHash,
      ])
    }
  }
}

describe('an honest history', () => {
  test('verifies, and says what that does not prove', async () => {
    const report = await tampered(async () => {})
    expect(report).toMatchObject({ ok: true, problems: [], events: EVENTS, streams: 3, tornLines: 0 })
    expect(report.checkpoints).toBeGreaterThan(0)
    expect(report.unprotectedTail).toEqual({ events: 0, fromPosition: null, oldestAt: null })
    expect(report.notProved.length).toBeGreaterThan(0)
  })

  test("verifies with nothing but an auditor's login", async () => {
    const databaseUrl = base.urlFor('verify_auditor', 'verify')
    const report = await verifyTrail({ databaseUrl, trailFile: trail, publicKey: signer.publicKey })
    expect(report.ok).toBe(true)
  })

  test('one stream of it verifies by itself', async () => {
    const report = await tampered(async () => {}, { stream: living })
    expect(report).toMatchObject({ ok: true, events: 6, streams: 1 })
  })

  test('a stream that nobody ever had is not called good', async () => {
    await expect(tampered(async () => {}, { stream: sandboxId() })).rejects.toMatchObject({
      code: 'NOT_FOUND',
    })
  })

  test.each([
    ['events', 'events'],
    ['events and positions', 'events, ledger'],
  ])('a stream whose %s are gone is told by the file', async (_, tables) => {
    const report = await tampered(
      async (sql) => {
        for (const table of tables.split(', ')) await sql(`delete from ${table} where stream = $1`, [living])
      },
      { stream: living },
    )
    expect(report.ok).toBe(false)
    expect(report.problems).toHaveLength(6)
  })

  test('lines that came twice and torn lines do no harm', async () => {
    const report = await tampered(async (_, file) => {
      const lines = readFileSync(file, 'utf8').split('\n')
      writeFileSync(file, [...lines.slice(0, 3), '{"position":4,"str', ...lines.slice(1)].join('\n'))
    })
    expect(report).toMatchObject({ ok: true, tornLines: 1 })
  })

  test('events that no checkpoint covers yet are counted, and checked all the same', async () => {
    const addUnplaced = async (sql: Sql) => {
      const [last] = (await readStream({ query: sql } as never, living)).slice(-1)
      const next = { ...(last as RecordedEvent), version: 7, prevHash: last?.hash as Buffer }
      const values = [living, last?.eventId, JSON.stringify(next.data), JSON.stringify(next.meta)]
      await sql(
        `insert into events (tenant, stream, version, event_id, type, type_version, at, data, sealed, meta, prev_hash, hash)
         select tenant, stream, 7, $2, type, type_version, at, $3, sealed, $4, $5, $6 from events
         where stream = $1 and version = 6`,
        [...values, next.prevHash, hashEvent(next)],
      )
    }
    const report = await tampered(addUnplaced)
    expect(report).toMatchObject({
      ok: true,
      events: EVENTS + 1,
      unprotectedTail: { events: 1, fromPosition: null },
    })
    const altered = await tampered(async (sql) => {
      await addUnplaced(sql)
      await sql(`update events set type = 'Other' where stream = $1 and version = 7`, [living])
    })
    expect(named(altered.problems)).toEqual([['event-altered', living, 7]])
  })
})

describe('tampering by a superuser is named:', () => {
  /** Every column, each changed by as little as its type allows. */
  const flips: Record<string, string> = {
    tenant: `tenant = 'acmf'`,
    event_id: `event_id = gen_random_uuid()`,
    type: `type = type || 'x'`,
    type_version: 'type_version = type_version + 1',
    at: `at = at + interval '1 millisecond'`,
    'at to infinity': `at = 'infinity'`,
    data: `data = data || '{"version": 4}'`,
    'data beyond the digits of a double': `data = jsonb_set(data, '{version}', '3.00000000000000000000001')`,
    'data to a number that no double holds': `data = jsonb_set(data, '{version}', '1e400')`,
    sealed: `sealed = set_bit(sealed, 3, 1 - get_bit(sealed, 3))`,
    'sealed away': 'sealed = null',
    actor: `meta = jsonb_set(meta, '{actor}', '"token:other"')`,
    effects: `meta = jsonb_set(meta, '{effects}', '{}')`,
    prev_hash: 'prev_hash = set_bit(prev_hash, 0, 1 - get_bit(prev_hash, 0))',
    hash: 'hash = set_bit(hash, 255, 1 - get_bit(hash, 255))',
    seq: 'seq = seq + 100000',
  }
  for (const [column, change] of Object.entries(flips)) {
    test(`a change of ${column}`, async () => {
      const report = await tampered((sql) =>
        sql(`update events set ${change} where stream = $1 and version = 4`, [ended]),
      )
      expect(named(report.problems)).toEqual([['event-altered', ended, 4]])
      expect(report.ok).toBe(false)
    })
  }

  test('a removed event', async () => {
    const report = await tampered((sql) =>
      sql('delete from events where stream = $1 and version = 3', [ended]),
    )
    expect(named(report.problems)).toEqual([['event-removed', ended, 3]])
  })

  test('a removed event, its ledger row gone too', async () => {
    const report = await tampered(async (sql) => {
      await sql('delete from events where stream = $1 and version = 3', [ended])
      await sql('delete from ledger where stream = $1 and version = 3', [ended])
    })
    expect(named(report.problems)).toEqual([['event-removed', ended, 3]])
  })

  test('a truncated stream and ledger', async () => {
    const report = await tampered(async (sql) => {
      await sql('delete from events where stream = $1 and version >= 5', [living])
      await sql('delete from ledger where stream = $1 and version >= 5', [living])
    })
    expect(named(report.problems)).toEqual([
      ['event-removed', living, 5],
      ['event-removed', living, 6],
    ])
  })

  test('a log that was truncated at its end, the sequencer set back, as if it had never been', async () => {
    const report = await tampered(async (sql) => {
      await sql('delete from events where seq > (select seq from ledger where position = 12)')
      await sql('delete from ledger where position > 12')
      await sql('delete from checkpoints where size > 12')
      await sql('update sequencer set position = 12, floor = 0')
    })
    const removed = report.problems.filter(({ kind }) => kind === 'event-removed')
    expect(named(removed)).toEqual([
      ['event-removed', ended, 7],
      ['event-removed', expect.stringMatching(/^command:acme:/), 1],
    ])
  })

  test('two events that changed places', async () => {
    const report = await tampered(async (sql) => {
      const move = 'update events set version = $3 where stream = $1 and version = $2'
      await sql(move, [ended, 4, 99])
      await sql(move, [ended, 5, 4])
      await sql(move, [ended, 99, 5])
    })
    expect(named(report.problems)).toEqual([
      ['event-altered', ended, 4],
      ['event-altered', ended, 5],
    ])
  })

  test('two positions of the ledger that changed places', async () => {
    const report = await tampered(async (sql) => {
      const move = 'update ledger set position = $2 where position = $1'
      await sql(move, [3, 99])
      await sql(move, [4, 3])
      await sql(move, [99, 4])
    })
    expect(named(report.problems)).toEqual([
      ['ledger-altered', living, 3],
      ['ledger-altered', living, 4],
    ])
  })

  test('a removed row of the ledger', async () => {
    const report = await tampered((sql) => sql('delete from ledger where position = 5'))
    expect(named(report.problems)).toEqual([['ledger-removed', living, 5]])
  })

  for (const alsoLedger of [false, true]) {
    const where = alsoLedger ? ', in the ledger too' : ''
    test(`a stream rewritten from version 4 on with right hashes${where}`, async () => {
      const report = await tampered((sql) => rewrite(sql, living, 4, alsoLedger))
      const rewritten = report.problems.filter(({ kind }) => kind === 'event-rewritten')
      expect(named(rewritten)).toEqual([
        ['event-rewritten', living, 4],
        ['event-rewritten', living, 5],
        ['event-rewritten', living, 6],
      ])
    })
  }

  test('a whole stream rewritten, seen when only that stream is verified', async () => {
    const report = await tampered((sql) => rewrite(sql, living, 1, true), { stream: living })
    const rewritten = report.problems.filter(({ kind }) => kind === 'event-rewritten')
    expect(rewritten.map(({ version }) => version)).toEqual([1, 2, 3, 4, 5, 6])
  })

  test('an event put in so that the sequencer never places it', async () => {
    const report = await tampered(async (sql) => {
      await sql(
        `insert into events select tenant, 'sb-forged', 1, seq, event_id, type, type_version, at, data, sealed, meta, prev_hash, hash
         from events where stream = $1 and version = 1`,
        [ended],
      )
    })
    expect(named(report.problems)).toEqual([['event-inserted', 'sb-forged', 1]])
  })

  const states: Record<string, string> = {
    'an altered live row': `update live set epoch = 2`,
    'a removed live row': 'delete from live',
    'an invented live row': `insert into live (sandbox_id, tenant, worker_id, epoch, state) values ('sb-x', 'acme', 'wk-1', 1, 'open')`,
    'a stolen claim': `update claims set holder = 'sb-x'`,
    'a removed claim': 'delete from claims',
    'a smaller reservation': 'update reservations set memory_bytes = 1',
    'an invented open exec': `insert into exec_slots values ('ex-x', 'acme')`,
    "a worker's counter": 'update workers set reserved_memory_bytes = 0',
    "a tenant's counter": 'update tenants set used_sandboxes = 0',
    "the sequencer's position": 'update sequencer set position = position - 1',
  }
  for (const [what, change] of Object.entries(states)) {
    test(what, async () => {
      const report = await tampered((sql) => sql(change))
      expect(report.problems.map(({ kind }) => kind)).toContain('state-altered')
      expect(new Set(report.problems.map(({ kind }) => kind)).size).toBe(1)
    })
  }

  test('an altered checkpoint', async () => {
    const report = await tampered((sql) =>
      sql('update checkpoints set root = set_bit(root, 0, 1 - get_bit(root, 0))'),
    )
    expect(report.problems[0]?.kind).toBe('checkpoint-invalid')
  })
})

describe('tampering with the file is named:', () => {
  const edit = (change: (lines: string[]) => string[]) => async (_: Sql, file: string) => {
    writeFileSync(file, change(readFileSync(file, 'utf8').split('\n')).join('\n'))
  }

  test('a removed line', async () => {
    const report = await tampered(edit((lines) => lines.filter((line) => !line.includes('"position":5,'))))
    expect(named(report.problems)).toContainEqual(['trail-altered', living, 5])
  })

  test('a line changed together with the database: the root is not the signed one', async () => {
    const report = await tampered(async (sql, file) => {
      await rewrite(sql, living, 6, true)
      const [row] = (
        await sql(`select encode(hash, 'hex') as hash from ledger where stream = $1 and version = 6`, [
          living,
        ])
      ).rows
      await edit((lines) =>
        lines.map((line) =>
          line.includes(living) && line.includes('"version":6')
            ? line.replace(/"hash":"\w+"/, `"hash":"${row.hash}"`)
            : line,
        ),
      )(sql, file)
    })
    expect(new Set(report.problems.map(({ kind }) => kind))).toEqual(new Set(['checkpoint-invalid']))
  })

  test('a checkpoint of another key', async () => {
    const otherKey = join(dir, `key-${randomBytes(4).toString('hex')}`)
    createSignerKey(otherKey)
    const other = loadSigner(otherKey, 'verify.test')
    const note = JSON.stringify({ checkpoint: other.sign(3, Buffer.alloc(32)) })
    const report = await tampered(edit((lines) => [...lines.slice(0, 3), note, ...lines.slice(3)]))
    expect(report.problems.map(({ kind }) => kind)).toEqual(['checkpoint-invalid'])
  })

  test('a second, different line for the same position', async () => {
    const report = await tampered(
      edit((lines) => [
        ...lines,
        (lines[0] as string).replace(/.(?="}$)/, (digit) => (digit === '0' ? '1' : '0')),
        '',
      ]),
    )
    expect(named(report.problems)).toEqual([['trail-altered', living, 1]])
  })

  test('a truncated file protects less, and says so', async () => {
    const report = await tampered(edit((lines) => [...lines.slice(0, 4), '']))
    expect(report.ok).toBe(true)
    expect(report.unprotectedTail.events).toBeGreaterThanOrEqual(EVENTS - 4)
  })
})

test('without its file, or with a key of another form, there is nothing to verify', async () => {
  const options = { databaseUrl: base.url, trailFile: trail, publicKey: signer.publicKey }
  await expect(verifyTrail({ ...options, trailFile: join(dir, 'none') })).rejects.toMatchObject({
    code: 'NOT_FOUND',
  })
  await expect(verifyTrail({ ...options, publicKey: 'x' })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
  })
})
