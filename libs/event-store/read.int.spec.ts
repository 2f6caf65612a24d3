import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { append } from './append.js'
import { load } from './load.js'
import { lastPosition, readPage, readStream, readWindow } from './read.js'
import { createTestDatabase, type TestDatabase } from './testing.js'
import { placeAll } from './testing-ledger.js'
import { event, request } from './testing-requests.js'

let db: TestDatabase
const NOON = new Date('2026-11-24T12:00:00Z')
const later = (minutes: number) => new Date(NOON.getTime() + minutes * 60_000)

beforeAll(async () => {
  db = await createTestDatabase()
  for (const [minute, tenant, stream, version, type] of [
    [0, 'acme', 'a', 0, 'Opened'],
    [1, 'umbrella', 'b', 0, 'Opened'],
    [2, 'acme', 'a', 1, 'Added'],
    [3, 'acme', 'a', 2, 'Added'],
    [4, 'acme', 'c', 0, 'Opened'],
  ] as const) {
    const writes = [{ stream, expectedVersion: version, events: [event(type, { n: minute })] }]
    await append(db.pool, request({ tenant, at: later(minute), writes }))
  }
  await placeAll(db.pool)
})
afterAll(() => db.drop())

const positions = async (options: Parameters<typeof readPage>[1]) =>
  (await readPage(db.pool, options)).events.map((each) => Number(each.position))

test('reads by position, filtered', async () => {
  expect(await positions({})).toEqual([1, 2, 3, 4, 5])
  expect(await positions({ afterPosition: 2n, limit: 2 })).toEqual([3, 4])
  expect(await positions({ tenant: 'umbrella' })).toEqual([2])
  expect(await positions({ types: ['Opened'] })).toEqual([1, 2, 5])
  expect(await positions({ since: later(3) })).toEqual([4, 5])
  expect(await lastPosition(db.pool)).toBe(5n)
})

test('reads a stream from a version on', async () => {
  const versions = async (options: object) =>
    (await readStream(db.pool, 'a', options)).map((each) => each.version)
  expect(await versions({})).toEqual([1, 2, 3])
  expect(await versions({ fromVersion: 2, limit: 1 })).toEqual([2])
  expect(await readStream(db.pool, 'none')).toEqual([])
})

const sum = {
  initial: 0,
  evolve: (total: number, { data }: { data: object }) => total + (data as { n: number }).n,
}

test('folds a stream as it is, as it was at a version, and as it was at a moment', async () => {
  expect(await load(db.pool, sum, 'a')).toMatchObject({ state: 5, version: 3 })
  expect(await load(db.pool, sum, 'a', { version: 2 })).toMatchObject({ state: 2, version: 2 })
  expect(await load(db.pool, sum, 'a', { at: later(2) })).toMatchObject({ state: 2, version: 2 })
  expect(await load(db.pool, sum, 'none')).toMatchObject({ state: 0, version: 0 })
})

test('an old version of an event is brought up to date, step by step, before it is folded', async () => {
  const upcasts = {
    Added: {
      1: ({ n }: object & { n?: unknown }) => ({ m: Number(n) }),
      2: (data: object) => ({ n: (data as { m: number }).m * 100 }),
    },
  }
  const versions: number[] = []
  const counting = {
    initial: 0,
    upcasts,
    evolve: (total: number, { typeVersion, data }: { typeVersion: number; data: object }) => {
      versions.push(typeVersion)
      return total + (data as { n: number }).n
    },
  }
  expect(await load(db.pool, counting, 'a')).toMatchObject({ state: 500, version: 3 })
  expect(versions).toEqual([1, 3, 3])
})

test('the next page begins where this one ended, or at the end of what was looked through', async () => {
  const next = async (options: Parameters<typeof readPage>[1]) =>
    Number((await readPage(db.pool, options)).next)
  expect(await next({ limit: 2 })).toBe(2)
  expect(await next({ limit: 50 })).toBe(5)
  expect(await next({ tenant: 'umbrella' })).toBe(5)
  expect(await next({ tenant: 'nobody', afterPosition: 1n })).toBe(5)
  expect(await next({ afterPosition: 9n })).toBe(9)
})

test('a page ends after some MiB, and the next one goes on', async () => {
  // The first half compresses to next to nothing in the database, the second not at all.
  const texts = Array.from({ length: 14 }, (_, i) =>
    i < 7 ? 'x'.repeat(900_000) : randomBytes(450_000).toString('hex'),
  )
  for (const [version, text] of texts.entries()) {
    const writes = [{ stream: 'big', expectedVersion: version, events: [event('Big', { text })] }]
    await append(db.pool, request({ writes }))
  }
  const end = BigInt(await placeAll(db.pool))
  for (const read of [
    (after: bigint) => readPage(db.pool, { afterPosition: after }),
    (after: bigint) => readWindow(db.pool, after, end),
  ]) {
    const first = await read(5n)
    expect(first.events).toHaveLength(10)
    const second = await read(first.next)
    expect(second.events.map(({ data }) => data.text)).toEqual(texts.slice(10))
    expect(second.next).toBe(end)
  }
})
