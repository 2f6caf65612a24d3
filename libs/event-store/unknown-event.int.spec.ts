/** Events of a newer release in the log: parked with an alarm, never skipped (F-28). */

import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { sandboxAggregate } from '#libs/domain'
import { append } from './append.js'
import { readFollowerLags } from './ledger/lag.js'
import { load } from './load.js'
import { rebuildProjection } from './projection.js'
import { Subscription } from './subscription.js'
import { createTestDatabase, type TestDatabase } from './testing.js'
import { placeAll, readCursor } from './testing-ledger.js'
import { event, request, sandboxId } from './testing-requests.js'

let db: TestDatabase
beforeAll(async () => {
  db = await createTestDatabase()
  await db.pool.query('create table seen (position bigint)')
})
afterAll(() => db.drop())

const KNOWS = { Old: 1, Other: 1 }

const write = async (...events: { type: string; typeVersion: number }[]) => {
  const stream = sandboxId()
  const writes = [{ stream, expectedVersion: 0, events: events.map((each) => ({ ...event(), ...each })) }]
  await append(db.pool, request({ writes }))
  return stream
}

async function until(condition: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 5))
}

test('a follower stops before it with a warning, keeps what came before, and its successor goes on there', async () => {
  const told: string[] = []
  const log = { warn: (fields: object) => told.push(String((fields as { err: Error }).err.message)) }
  const follow = (knows: Record<string, number>, types = ['Old']) =>
    new Subscription({
      db: db.pool,
      name: 'follower',
      types,
      knows,
      log,
      handle: async (tx, { position }) => {
        await tx.query('insert into seen values ($1)', [String(position)])
      },
    })
  const seen = async () => {
    const { rows } = await db.pool.query<{ position: string }>('select position from seen order by 1')
    return rows.map(({ position }) => Number(position))
  }

  await write({ type: 'Old', typeVersion: 1 }, { type: 'Other', typeVersion: 1 })
  // Not followed by this release, since it does not know it; perhaps by the next one.
  await write(
    { type: 'New', typeVersion: 1 },
    { type: 'Old', typeVersion: 2 },
    { type: 'Old', typeVersion: 1 },
  )
  await placeAll(db.pool)

  const old = follow(KNOWS)
  old.start()
  await until(() => told.length >= 2)
  await old.stop()
  expect(told[0]).toMatch(/has New of version 1 .* does not know/)
  expect(await readCursor(db.pool, 'follower')).toBe(2n)
  expect(await seen()).toEqual([1])
  expect(await readFollowerLags(db.pool)).toContainEqual({ follower: 'follower', events: 3 })

  // A version that is newer than what is known is as unknown as a type.
  const between = follow({ ...KNOWS, New: 1 }, ['Old', 'New'])
  between.start()
  await until(() => told.at(-1)!.includes('Old of version 2'))
  await between.stop()
  expect(await seen()).toEqual([1, 3])

  const next = follow({ ...KNOWS, New: 1, Old: 2 }, ['Old', 'New'])
  next.start()
  await until(async () => (await readCursor(db.pool, 'follower')) === 5n)
  await next.stop()
  expect(await seen()).toEqual([1, 3, 4, 5])
})

test('a projection is not rebuilt past it: the rows of before stay', async () => {
  await db.pool.query('create table rows (position bigint); insert into rows values (0)')
  const projection = {
    name: 'rows',
    tables: ['rows'],
    types: ['Old'],
    knows: KNOWS,
    apply: async () => {},
  }
  await expect(rebuildProjection(db.pool, projection)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  expect((await db.pool.query('select position from rows')).rowCount).toBe(1)
})

test('nobody decides on a stream that has one', async () => {
  for (const unknown of [
    { type: 'SandboxHibernated', typeVersion: 1 },
    { type: 'SandboxLost', typeVersion: 2 },
  ]) {
    const stream = await write(unknown)
    await expect(load(db.pool, sandboxAggregate, stream)).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      hint: expect.stringContaining('upgrade this service'),
    })
  }
})
