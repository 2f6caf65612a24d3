import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { Sealer } from './sealer.js'
import { createTestDatabase, type TestDatabase } from './testing.js'

const masterKey = randomBytes(32)
let db: TestDatabase
let sealer: Sealer
beforeAll(async () => {
  db = await createTestDatabase()
  sealer = new Sealer(db.pool, masterKey)
})
afterAll(() => db.drop())

const secret = { env: { TOKEN: 'canary-4711' } }

test('what is sealed opens again, in another process too, and never the same bytes twice', async () => {
  const sealed = await sealer.seal('acme', 'sb-1', secret)
  expect(sealed.toString('latin1')).not.toContain('canary')
  expect(await new Sealer(db.pool, masterKey).open('acme', 'sb-1', sealed)).toEqual(secret)
  expect(await sealer.seal('acme', 'sb-1', secret)).not.toEqual(sealed)
})

test('it opens only for its tenant, stream and field, with its master key, unchanged', async () => {
  const sealed = await sealer.seal('acme', 'sb-1', secret)
  await expect(sealer.open('acme', 'sb-2', sealed)).rejects.toMatchObject({ code: 'INTERNAL' })
  await expect(sealer.open('umbrella', 'sb-1', sealed)).rejects.toMatchObject({ code: 'NOT_FOUND' })
  await expect(sealer.open('acme', 'sb-1', sealed, 'stdin')).rejects.toMatchObject({ code: 'INTERNAL' })
  const stranger = new Sealer(db.pool, randomBytes(32))
  await expect(stranger.open('acme', 'sb-1', sealed)).rejects.toMatchObject({ code: 'INTERNAL' })
  for (let i = 0; i < sealed.length; i += 3) {
    const changed = Buffer.from(sealed)
    changed[i] = (changed[i] as number) ^ 1
    await expect(sealer.open('acme', 'sb-1', changed)).rejects.toThrow()
  }
})

test('a destroyed key erases what it sealed, and the tenant goes on with a new one', async () => {
  const before = await sealer.seal('erased', 'sb-1', secret)
  await sealer.destroyKeys('erased')
  await expect(sealer.open('erased', 'sb-1', before)).rejects.toMatchObject({ code: 'NOT_FOUND' })
  const after = await sealer.seal('erased', 'sb-1', secret)
  expect(await sealer.open('erased', 'sb-1', after)).toEqual(secret)
})

test('ten first uses at once make one key', async () => {
  const sealers = Array.from({ length: 10 }, () => new Sealer(db.pool, masterKey))
  const sealed = await Promise.all(sealers.map((each) => each.seal('fresh', 'sb-1', secret)))
  for (const each of sealed) expect(await sealer.open('fresh', 'sb-1', each)).toEqual(secret)
  const { rows } = await db.pool.query(
    `select count(*)::integer as n from tenant_keys where tenant = 'fresh'`,
  )
  expect(rows).toEqual([{ n: 1 }])
})
