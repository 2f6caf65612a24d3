import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import pg from 'pg'
import { append, createToken, openDatabase, purgeCommands, Sealer } from '#libs/event-store'
import { createTestDatabase, type TestDatabase } from '../libs/event-store/testing.js'
import { placeAll } from '../libs/event-store/testing-ledger.js'
import { request, sandboxId } from '../libs/event-store/testing-requests.js'
import { dataSourceFor, ensureLogin, migrate, migrations } from './index.js'

let db: TestDatabase
let service: pg.Pool
let auditor: pg.Pool

beforeAll(async () => {
  db = await createTestDatabase()
  // Roles belong to the cluster: other test files' must not be these.
  await ensureLogin(db.url, { user: 'migrations_service', password: 'a pass:word', role: 'service' })
  await ensureLogin(db.url, { user: 'migrations_auditor', password: 'b', role: 'auditor' })
  service = openDatabase({ url: db.urlFor('migrations_service', 'a pass:word') })
  auditor = openDatabase({ url: db.urlFor('migrations_auditor', 'b') })
})
afterAll(async () => {
  await service.end()
  await auditor.end()
  await db.drop()
})

const DENIED = { code: '42501' }

test('five processes that migrate a new database at once leave it at the newest schema', async () => {
  await db.pool.query('create database migrated_at_once')
  const url = db.url.replace(/[^/]+$/, 'migrated_at_once')
  try {
    await Promise.all(Array.from({ length: 5 }, () => migrate(url)))
    const source = await dataSourceFor(url).initialize()
    expect(await source.showMigrations()).toBe(false)
    expect(await source.query('select count(*)::integer as n from migrations')).toEqual([
      { n: migrations.length },
    ])
    await source.destroy()
  } finally {
    await db.pool.query('drop database migrated_at_once with (force)')
  }
})

test("the services' role appends, reads and places, and cannot change or remove what is in the log", async () => {
  const stream = sandboxId()
  const live = { action: 'open' as const, sandboxId: stream, workerId: 'wk-1', epoch: 1 }
  const timers = { set: [{ key: stream, afterMs: 1, kind: 'k', payload: {} }] }
  expect(await append(service, request({ stream, live, timers }))).toMatchObject({ outcome: 'appended' })
  await placeAll(service)
  await new Sealer(service, Buffer.alloc(32)).seal('acme', stream, {})
  await createToken(service, { tenant: 'acme', name: 'ci' })
  for (const table of ['events', 'ledger', 'checkpoints']) {
    await expect(service.query(`delete from ${table}`)).rejects.toMatchObject(DENIED)
    await expect(service.query(`truncate ${table}`)).rejects.toMatchObject(DENIED)
  }
  await expect(service.query(`update events set type = 'x'`)).rejects.toMatchObject(DENIED)
  await expect(service.query('update ledger set term = 9')).rejects.toMatchObject(DENIED)
  await expect(service.query(`update commands set outcome = '{}'`)).rejects.toMatchObject(DENIED)
  await expect(service.query('alter table events disable trigger all')).rejects.toMatchObject(DENIED)
  await expect(service.query('set session_replication_role = replica')).rejects.toMatchObject(DENIED)
  await expect(service.query('delete from tokens')).rejects.toMatchObject(DENIED)
})

test('an auditor reads every view, sees no secret, and writes nothing', async () => {
  for (const view of [
    'events',
    'commands',
    'sandboxes',
    'checkpoints',
    'workers',
    'tokens',
    'refusals',
    'tenants',
  ]) {
    await auditor.query(`select * from audit_${view}`)
  }
  const { rows } = await auditor.query('select * from audit_events')
  expect(rows[0]).toMatchObject({
    position: '1',
    tenant: 'acme',
    aggregate: 'sandbox',
    version: 1,
    actor: 'token:test',
  })
  for (const table of ['tokens', 'tenant_keys', 'commands', 'timers']) {
    await expect(auditor.query(`select * from ${table}`)).rejects.toMatchObject(DENIED)
  }
  await expect(auditor.query('create temporary table t (n integer)')).rejects.toMatchObject({ code: '25006' })
})

const guide = readFileSync(new URL('../docs/audit-sql.md', import.meta.url), 'utf8')
for (const [, query = ''] of guide.matchAll(/```sql\n(.*?)```/gs)) {
  test(`docs/audit-sql.md: an auditor can run "${query.split('\n', 1)[0]}"`, async () => {
    await auditor.query(query)
  })
}

test('docs/audit-sql.md lists the columns that the views have', async () => {
  const { rows } = await db.pool.query<{ name: string; columns: string[] }>(`
    select table_name as name, array_agg(column_name::text order by ordinal_position) as columns
    from information_schema.columns
    where table_name like 'audit\\_%'
    group by table_name`)
  for (const { name, columns } of rows) {
    const line = guide.split('\n').find((each) => each.startsWith(`| \`${name}\``)) ?? ''
    const listed = columns.map((column) => column.replace(/^(capacity|reserved)_.*/, '$1_*'))
    for (const column of listed) expect(`${name}: ${line}`).toContain(column)
  }
  expect(rows).toHaveLength(9)
})

test('a command is kept for seven days after its expiry, and then can go', async () => {
  const kept = request()
  await append(service, kept)
  const old = request()
  await append(service, old)
  await db.pool.query(
    `set session_replication_role = replica;
     update commands set at = at - interval '9 days', expires_at = expires_at - interval '8 days'
     where command_id = '${old.command.id}';
     set session_replication_role = origin`,
  )
  await expect(
    service.query('delete from commands where command_id = $1', [kept.command.id]),
  ).rejects.toMatchObject(DENIED)
  expect(await purgeCommands(service)).toBe(1)
  const { rows } = await service.query('select command_id from commands where command_id = any($1)', [
    [kept.command.id, old.command.id],
  ])
  expect(rows).toEqual([{ command_id: kept.command.id }])
})

test('a migration is never undone', async () => {
  const source = await dataSourceFor(db.url).initialize()
  await expect(source.undoLastMigration()).rejects.toThrow('cannot be undone')
  await source.destroy()
})
