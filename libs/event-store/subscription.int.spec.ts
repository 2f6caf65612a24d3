import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { append } from './append.js'
import { derivedCommandId } from './envelope.js'
import { readStream } from './read.js'
import { Subscription, type SubscriptionOptions } from './subscription.js'
import { createTestDatabase, type TestDatabase } from './testing.js'
import { placeAll, readCursor } from './testing-ledger.js'
import { command, event, request } from './testing-requests.js'

let db: TestDatabase
beforeAll(async () => {
  db = await createTestDatabase({ max: 20 })
  await db.pool.query('create table seen (name text, position bigint, primary key (name, position))')
})
afterAll(() => db.drop())

const subscribe = (name: string, more: Partial<SubscriptionOptions> = {}) =>
  new Subscription({
    db: db.pool,
    name,
    handle: async (tx, { position }) => {
      await tx.query('insert into seen values ($1, $2)', [name, String(position)])
    },
    ...more,
  })

const seen = async (name: string) => {
  const { rows } = await db.pool.query<{ position: string }>(
    'select position from seen where name = $1 order by position',
    [name],
  )
  return rows.map((row) => Number(row.position))
}

async function until(condition: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 5))
}

const upTo = (n: number) => Array.from({ length: n }, (_, i) => i + 1)
const write = async (n: number, type = 'Happened') => {
  for (let i = 0; i < n; i++) {
    const { stream } = { stream: `s-${Math.random()}` }
    await append(db.pool, request({ writes: [{ stream, expectedVersion: 0, events: [event(type)] }] }))
  }
  return placeAll(db.pool)
}

test('three followers of one name see each event once, effect and cursor together', async () => {
  const last = await write(250)
  const followers = [subscribe('three'), subscribe('three'), subscribe('three')]
  for (const follower of followers) follower.start()
  await until(async () => (await readCursor(db.pool, 'three')) === BigInt(last))
  const newLast = await write(3)
  for (const follower of followers) follower.nudge()
  await until(async () => (await readCursor(db.pool, 'three')) === BigInt(newLast))
  await Promise.all(followers.map((follower) => follower.stop()))
  expect(await seen('three')).toEqual(upTo(newLast))
})

test('types that are not followed are passed over, the cursor goes on', async () => {
  await write(2, 'Wanted')
  const last = await write(300, 'Other')
  const types: string[] = []
  const follower = subscribe('typed', {
    types: ['Wanted'],
    handle: async (_, { type }) => {
      types.push(type)
    },
  })
  follower.start()
  await until(async () => (await readCursor(db.pool, 'typed')) === BigInt(last))
  await follower.stop()
  expect(types).toEqual(['Wanted', 'Wanted'])
})

test('an event that cannot be handled holds the cursor right before it, and nothing earlier is undone', async () => {
  const last = await write(5)
  const poison = BigInt(last - 1)
  let healthy = false
  const faults: unknown[] = []
  const follower = subscribe('poisoned', {
    log: { warn: (fields) => faults.push(fields) },
    handle: async (tx, { position }) => {
      if (position === poison && !healthy) throw new Error('cannot')
      await tx.query('insert into seen values ($1, $2)', ['poisoned', String(position)])
    },
  })
  follower.start()
  await until(async () => (await readCursor(db.pool, 'poisoned')) === poison - 1n)
  await until(() => faults.length > 0)
  healthy = true
  follower.nudge()
  await until(async () => (await readCursor(db.pool, 'poisoned')) === BigInt(last))
  await follower.stop()
  expect(await seen('poisoned')).toEqual(upTo(last))
})

test('a process manager that crashes after its append sends the same command again, with one effect', async () => {
  const last = await write(1, 'Trigger')
  const stream = `reaction-${last}`
  let crashes = 1
  const outcomes: string[] = []
  const manager = subscribe('manager', {
    types: ['Trigger'],
    handle: async (_, trigger) => {
      const id = derivedCommandId(trigger.eventId, 'react')
      const result = await append(db.pool, request({ stream, command: command(id) }))
      outcomes.push(result.outcome)
      if (crashes-- > 0) throw new Error('crash')
    },
  })
  manager.start()
  await until(async () => (await readCursor(db.pool, 'manager')) >= BigInt(last))
  await manager.stop()
  expect(outcomes).toEqual(['appended', 'duplicate'])
  expect(await readStream(db.pool, stream)).toHaveLength(1)
})
