import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { type AppEvent, makeId } from '#libs/domain'
import { append } from '../append.js'
import { Projector, rebuildProjection } from '../projection.js'
import { createTestDatabase, type TestDatabase } from '../testing.js'
import { placeAll } from '../testing-ledger.js'
import { request } from '../testing-requests.js'
import type { NewEvent } from '../types.js'
import { appsProjection, type ListApps, listApps } from './apps.js'

let db: TestDatabase
beforeAll(async () => {
  db = await createTestDatabase()
})
afterAll(() => db.drop())

async function app(name: string | null, environment: string, ...more: AppEvent[]): Promise<string> {
  const stream = makeId('ap', Date.now(), randomBytes(10))
  const data = { name, environment, kind: 'ephemeral' as const, description: 'a test' }
  const events = [{ type: 'AppCreated', typeVersion: 1, data }, ...more] as NewEvent[]
  await append(db.pool, request({ tenant: 'acme', writes: [{ stream, expectedVersion: 0, events }] }))
  return stream
}
const stopped: AppEvent = { type: 'AppStopped', typeVersion: 1, data: { reason: 'heartbeat-lost' } }

async function project(): Promise<void> {
  await placeAll(db.pool)
  const projector = new Projector(db.pool, appsProjection)
  projector.start()
  for (;;) {
    const { rows } = await db.pool.query(
      `select 1 from projections where name = 'apps' and position = (select max(position) from ledger)`,
    )
    if (rows.length === 1) break
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  await projector.stop()
}

test('the list has apps of a tenant with their state, filters and pages newest first, and is built again', async () => {
  const first = await app('web', 'main', stopped)
  const second = await app('web', 'main')
  const third = await app('web', 'staging')
  const fourth = await app(null, 'main')
  await project()
  const newest = [first, second, third, fourth].sort().reverse()
  const list = async (filter: Partial<ListApps> = {}) => {
    const { apps, nextCursor } = await listApps(db.pool, { tenant: 'acme', ...filter })
    return { ids: apps.map(({ appId }) => appId), nextCursor, apps }
  }
  expect((await list()).ids).toEqual(newest)
  expect((await list({ state: 'stopped' })).apps).toEqual([
    {
      appId: first,
      name: 'web',
      environment: 'main',
      kind: 'ephemeral',
      description: 'a test',
      state: 'stopped',
      createdAt: expect.any(Date),
      stoppedAt: expect.any(Date),
      stopReason: 'heartbeat-lost',
      sandboxes: 0,
    },
  ])
  expect((await list({ name: 'web', environment: 'main', state: 'running' })).ids).toEqual([second])
  expect((await list({ appId: third })).ids).toEqual([third])
  expect(await list({ limit: 2 })).toMatchObject({ ids: newest.slice(0, 2), nextCursor: newest[1] })
  expect(await list({ limit: 2, cursor: newest[1]! })).toMatchObject({
    ids: newest.slice(2),
    nextCursor: null,
  })
  expect((await listApps(db.pool, { tenant: 'other' })).apps).toEqual([])

  const rows = async () => (await db.pool.query('select * from apps order by app_id')).rows
  const before = await rows()
  await db.pool.query(`update apps set state = 'running', name = 'forged'`)
  await rebuildProjection(db.pool, appsProjection)
  expect(await rows()).toEqual(before)
})
