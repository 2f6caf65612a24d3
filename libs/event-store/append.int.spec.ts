import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { append } from './append.js'
import { appendContract } from './append-contract.js'
import { isConnectionLoss, openDatabase } from './database.js'
import { settleLostCommit } from './lost-commit.js'
import { readStream } from './read.js'
import { isFree } from './statements/commands.js'
import { createTestDatabase, type TestDatabase } from './testing.js'
import { request, sandboxId } from './testing-requests.js'

let db: TestDatabase
beforeAll(async () => {
  db = await createTestDatabase({ max: 20 })
})
afterAll(() => db.drop())

const count = async (sql: string, values: unknown[] = []) => {
  const { rows } = await db.pool.query<{ n: number }>(`select count(*)::integer as n from ${sql}`, values)
  return rows[0]?.n
}

appendContract(() => createTestDatabase({ max: 20 }))

test('of open execs make nobody wait where there is no quota, and no end ever', async () => {
  await db.pool.query(`insert into tenants (tenant, quota_execs) values ('free', null), ('bound', 9)`)
  const slot = (tenant: string, action: 'take' | 'release') =>
    append(db.pool, request({ tenant, execSlot: { action, execId: `ex-${tenant}` } }))
  await slot('bound', 'take')
  const other = await db.pool.connect()
  try {
    await other.query('begin')
    await other.query(`select from tenants where tenant in ('free', 'bound') for update`)
    const ends = await Promise.all([
      slot('free', 'take').then(() => slot('free', 'release')),
      slot('bound', 'release'),
    ])
    expect(ends.map(({ outcome }) => outcome)).toEqual(['appended', 'appended'])
  } finally {
    await other.query('rollback')
    other.release()
  }
})

/** Resolves once `sql` counts at least one. */
const until = async (sql: string) => {
  while ((await count(sql)) === 0) await new Promise(setImmediate)
}

describe('a lost connection', () => {
  test('before the commit: nothing is written and the caller may send again', async () => {
    const blocked = request({ claims: { take: [{ kind: 'k', key: 'held', holder: 'me' }] } })
    const holder = await db.pool.connect()
    await holder.query('begin')
    await holder.query(`insert into claims values ('acme', 'k', 'held', 'other')`)
    const waiting = append(db.pool, blocked)
    waiting.catch(() => {})
    await until(`pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`)
    await db.pool.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where wait_event_type = 'Lock' and datname = current_database()`,
    )
    await expect(waiting).rejects.toMatchObject({ code: 'UNAVAILABLE', retryable: true })
    await holder.query('rollback')
    holder.release()
    expect(await append(db.pool, blocked)).toMatchObject({ outcome: 'appended' })
  })
})

describe('what is no lost connection', () => {
  test('a bug of ours is told as it is, not as trouble that passes', async () => {
    const given = request({ timers: { set: [null as never] } })
    await expect(append(db.pool, given)).rejects.toThrow(TypeError)
    expect(isConnectionLoss(new TypeError('cannot read it'))).toBe(false)
    expect(isConnectionLoss(Object.assign(new Error('bad'), { code: 'ERR_INVALID_ARG_TYPE' }))).toBe(false)
  })

  test('a lock that is not had in time may be had later', async () => {
    await db.pool.query(
      `do $$ begin execute format('alter database %I set lock_timeout = 100', current_database()); end $$`,
    )
    const impatient = openDatabase({ url: db.url })
    const given = request()
    const holder = await db.pool.connect()
    try {
      await holder.query('begin')
      await isFree(holder, commandRow(given))
      await expect(append(impatient, given)).rejects.toMatchObject({ code: 'UNAVAILABLE', retryable: true })
    } finally {
      await holder.query('rollback')
      holder.release()
      await impatient.end()
      await db.pool.query(
        `do $$ begin execute format('alter database %I reset lock_timeout', current_database()); end $$`,
      )
    }
    expect(await append(db.pool, given)).toMatchObject({ outcome: 'appended' })
  })
})

const commandRow = ({ tenant, command: ref }: ReturnType<typeof request>) => ({
  tenant,
  command: ref,
  outcome: '{"ok":true}',
  rejected: false,
  attempt: randomUUID(),
})

describe('a connection lost during the commit', () => {
  test('of a command that has expired meanwhile: what is still committing is waited for', async () => {
    const row = commandRow(request())
    const holder = await db.pool.connect()
    await holder.query('begin')
    await isFree(holder, row)
    const expired = { ...row, command: { ...row.command, expiresAt: new Date(0) } }
    const settling = settleLostCommit(db.pool, expired, { s: 1 }, new Error('cut off'))
    settling.catch(() => {})
    const waits = until(`pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`)
    await Promise.race([waits, settling.catch(() => {})])
    await holder.query('commit')
    holder.release()
    await expect(settling).resolves.toEqual({ outcome: 'appended', versions: { s: 1 } })
  })

  test('that took effect: the append is found by its command id, and is there once', async () => {
    const cutting = await startCuttingProxy(db.url)
    const pool = openDatabase({ url: cutting.url })
    try {
      const stream = sandboxId()
      expect(await append(pool, request({ stream }))).toEqual({
        outcome: 'appended',
        versions: { [stream]: 1 },
      })
      expect(cutting.cuts()).toBe(1)
      expect(await readStream(db.pool, stream)).toHaveLength(1)
    } finally {
      await pool.end()
      await cutting.stop()
    }
  })

  /** Hands the first append to the server and cuts the connection instead of bringing the answer back. */
  async function startCuttingProxy(url: string) {
    const target = new URL(url)
    let cuts = 0
    const sockets = new Set<Socket>()
    const server = createServer((client) => {
      const upstream = connect(Number(target.port), target.hostname)
      let cutting = false
      for (const socket of [client, upstream]) sockets.add(socket.on('error', () => {}))
      client.on('data', (chunk) => {
        if (cuts === 0 && chunk.includes('\0append\0')) {
          cuts += 1
          cutting = true
        }
        upstream.write(chunk)
      })
      upstream.on('data', (chunk) => (cutting ? client.destroy() : client.write(chunk)))
      client.on('close', () => upstream.end())
      upstream.on('close', () => client.destroy())
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const proxied = new URL(url)
    proxied.port = String((server.address() as AddressInfo).port)
    return {
      url: proxied.href,
      cuts: () => cuts,
      async stop() {
        for (const socket of sockets) socket.destroy()
        server.close()
        await once(server, 'close')
      },
    }
  }
})

describe('the log', () => {
  test('refuses update, delete and truncate, for its owner too', async () => {
    await append(db.pool, request())
    const refused = { code: '42501' }
    await expect(db.pool.query(`update events set type = 'Other'`)).rejects.toMatchObject(refused)
    await expect(db.pool.query('delete from events')).rejects.toMatchObject(refused)
    await expect(db.pool.query('truncate events')).rejects.toMatchObject(refused)
    await expect(db.pool.query('truncate events_3')).rejects.toMatchObject(refused)
    await expect(db.pool.query(`update commands set outcome = '{}'`)).rejects.toMatchObject(refused)
    await expect(db.pool.query('delete from commands')).rejects.toMatchObject(refused)
  })
})
