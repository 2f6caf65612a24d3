import { afterAll, beforeAll, expect, test } from '@jest/globals'
import pg from 'pg'
import { TestSystem, until } from './system.js'

let system: TestSystem
beforeAll(async () => {
  system = await TestSystem.start()
}, 180_000)
afterAll(() => system?.stop(), 60_000)

test('a sandbox and the fleet as they were at three past instants', async () => {
  const id = await system.ok('create', '--name', 'past')
  await system.ok('exec', id, '--', 'true')
  await system.ok('rm', id)
  await until(async () => (await system.types(id)).includes('SandboxCleanedUp'))
  const history = await system.history(id)
  const timeOf = (type: string) => history.find((event) => event.type === type)!.time

  for (const [event, status] of [
    ['SandboxPlaced', 'starting'],
    ['SandboxStarted', 'running'],
    ['SandboxTerminated', 'ended'],
  ] as const) {
    const at = timeOf(event)
    const one = await system.json<{ state: { status: string } }>('history', id, '--at', at)
    expect(one.state.status).toBe(status)
    const fleet = await system.json<{ sandboxId: string; status: string }[]>('history', '--at', at)
    expect(fleet.find((sandbox) => sandbox.sandboxId === id)?.status).toBe(status)
  }
}, 120_000)

test('events are listed by type, and followed as they come', async () => {
  const id = await system.ok('create')
  const events = await system.json<{ type: string; stream: string }[]>('events', '--type', 'SandboxCreated')
  expect(events.map(({ stream }) => stream)).toContain(id)
  await system.ok('rm', id)
}, 60_000)

test('the auditor reads the views, and can change nothing', async () => {
  const auditor = new pg.Client({ connectionString: system.env.DATABASE_URL! })
  await auditor.connect()
  const { rows } = await auditor.query(
    "select count(*)::int as n from audit_events where type = 'SandboxCreated'",
  )
  expect(rows[0].n).toBeGreaterThan(0)
  // Twice over: its sessions are read-only, and it has no such right.
  await expect(auditor.query('delete from events')).rejects.toMatchObject({
    code: expect.stringMatching(/^(25006|42501)$/),
  })
  await auditor.end()
}, 60_000)

test('what a superuser altered is named by stream and version', async () => {
  const id = await system.ok('create')
  await system.ok('rm', id)
  await until(async () => (await system.types(id)).includes('SandboxCleanedUp'))
  await until(async () => (await system.run(['verify'])).code === 0)
  const admin = new pg.Client({ connectionString: system.env.DATABASE_ADMIN_URL! })
  await admin.connect()
  await admin.query('set session_replication_role = replica')
  await admin.query(
    'update events set data = data || \'{"forged": true}\' where stream = $1 and version = 2',
    [id],
  )
  const found = await system.run(['verify'])
  await admin.query("update events set data = data - 'forged' where stream = $1 and version = 2", [id])
  await admin.end()
  expect(found.code).toBe(8)
  expect(found.stdout + found.stderr).toMatch(new RegExp(`${id}[^\\n]*2`))
  expect((await system.run(['verify'])).code).toBe(0)
}, 120_000)
