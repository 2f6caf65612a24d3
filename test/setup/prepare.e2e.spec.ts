/** What scripts/deploy/prepare.mjs leaves for docker-compose.yml: read by the servers that it is for. */

import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { ensureTenant, openDatabase } from '#libs/event-store'
import { startPostgres, type TestPostgres } from '../../libs/event-store/testing.js'
import { findNatsServer } from '../../libs/messaging/testing.js'
import { ROOT } from '../system.js'

const run = promisify(execFile)
const dir = mkdtempSync(join(tmpdir(), 'sandtrail-prepare-'))
let postgres: TestPostgres
beforeAll(async () => {
  postgres = await startPostgres()
}, 60_000)
afterAll(async () => {
  await postgres?.stop()
  rmSync(dir, { recursive: true })
})

const prepare = () =>
  run(process.execPath, [
    join(ROOT, 'scripts/deploy/prepare.mjs'),
    dir,
    postgres.url,
    '2',
    'here.example.org',
  ])
const read = (name: string) => readFileSync(join(dir, name), 'utf8')

test('keys, brokers and a database for the services are made once, and a new tenant comes with the next run', async () => {
  await prepare()
  const keys = readdirSync(join(dir, 'keys'))
  const before = Object.fromEntries(keys.map((name) => [name, read(join('keys', name))]))
  const db = openDatabase({ url: postgres.url, max: 1, name: 'test' })
  await ensureTenant(db, 'newcomer')
  await db.end()
  await prepare()
  for (const name of keys) expect([name, read(join('keys', name))]).toEqual([name, before[name]])

  for (const name of [...readdirSync(join(dir, 'keys')).map((key) => join('keys', key)), 'env']) {
    const { mode } = statSync(join(dir, name))
    expect([name, mode & 0o022]).toEqual([name, 0])
  }
  // The containers' user reads what is theirs; the authority's key is nobody's but this host's.
  expect(statSync(join(dir, 'keys', 'platform.json')).uid).toBe(1000)
  expect(statSync(join(dir, 'keys', 'ca.key'))).toMatchObject({ uid: process.getuid!(), mode: 0o100600 })

  for (const broker of ['nats-1', 'nats-2', 'nats-3']) {
    const config = read(`${broker}.conf`)
    expect(config).toContain('newcomer')
    // As the container has the files.
    const local = join(dir, `${broker}.local.conf`)
    const paths = { '/etc/nats-tls.pem': 'keys/nats-tls.pem', '/etc/nats-tls.key': 'keys/nats-tls.key' }
    let text = config
    for (const [there, here] of Object.entries(paths)) text = text.replaceAll(there, join(dir, here))
    writeFileSync(local, text, { mode: 0o600 })
    await run(findNatsServer(), ['-t', '-c', local])
  }
}, 120_000)

test('the login of the services appends, and changes no event', async () => {
  const url = /^SANDTRAIL_DATABASE_URL=(.*)$/m.exec(read('env'))![1]!
  expect(read('env')).toMatch(/^SANDTRAIL_WORKER_ID=wk-/m)
  const db = openDatabase({ url, max: 1, name: 'test' })
  try {
    expect((await db.query('select count(*)::int as count from events')).rows).toEqual([{ count: 0 }])
    await ensureTenant(db, 'theirs')
    for (const statement of ['update events set type = type', 'delete from events', 'drop table events']) {
      await expect(db.query(statement)).rejects.toMatchObject({ code: '42501' })
    }
  } finally {
    await db.end()
  }
})
