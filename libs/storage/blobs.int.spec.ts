import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { FileBlobStore, signBlobUrl, verifyBlobUrl } from './index.js'

const KEY = randomBytes(32)
const NOW = new Date('2026-01-01T00:00:00Z')
let dir: string
let store: FileBlobStore

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'sandtrail-blobs-'))
  store = await FileBlobStore.open(dir)
})

afterAll(() => rmSync(dir, { recursive: true }))

test('a blob is kept by its digest and read back, byte for byte', async () => {
  const content = randomBytes(300_000)
  const sha256 = createHash('sha256').update(content).digest('hex')
  expect(await store.put(chunks(content), { bytesMax: 1_000_000 })).toEqual({ sha256, bytes: 300_000 })
  await store.put(chunks(content), { bytesMax: 1_000_000 })
  expect(await store.has(sha256)).toBe(true)
  const { bytes, stream } = await store.open(sha256)
  const read: Buffer[] = []
  for await (const chunk of stream) read.push(chunk as Buffer)
  expect([bytes, Buffer.concat(read).equals(content)]).toEqual([300_000, true])
})

test('one that is too large, or breaks off, leaves nothing', async () => {
  await expect(store.put(chunks(randomBytes(2_000)), { bytesMax: 1_000 })).rejects.toMatchObject({
    code: 'PAYLOAD_TOO_LARGE',
  })
  const broken = async function* () {
    yield Buffer.from('half')
    throw new Error('the client is gone')
  }
  await expect(store.put(broken(), { bytesMax: 1_000 })).rejects.toThrow('gone')
  expect(readdirSync(join(dir, 'incoming'))).toEqual([])
})

test('a name that is no digest finds nothing', async () => {
  for (const name of ['../incoming', '', 'f'.repeat(63), `${'f'.repeat(62)}/.`]) {
    expect(await store.has(name)).toBe(false)
    await expect(store.open(name)).rejects.toMatchObject({ code: 'NOT_FOUND' })
  }
})

test('a signed URL is good for one blob until its time', () => {
  const sha256 = 'a'.repeat(64)
  const url = new URL(signBlobUrl('http://gateway:8480', sha256, new Date(NOW.getTime() + 60_000), KEY))
  const query = Object.fromEntries(url.searchParams)
  expect(url.pathname).toBe(`/v1/blobs/${sha256}`)
  expect(verifyBlobUrl(sha256, query, KEY, NOW)).toBe(true)
  expect(verifyBlobUrl('b'.repeat(64), query, KEY, NOW)).toBe(false)
  expect(verifyBlobUrl(sha256, query, randomBytes(32), NOW)).toBe(false)
  expect(verifyBlobUrl(sha256, { ...query, expires: '99999999999' }, KEY, NOW)).toBe(false)
  expect(verifyBlobUrl(sha256, query, KEY, new Date(NOW.getTime() + 61_000))).toBe(false)
  for (const odd of [{}, { expires: ['1'], signature: 'x' }, { ...query, signature: '' }]) {
    expect(verifyBlobUrl(sha256, odd, KEY, NOW)).toBe(false)
  }
})

async function* chunks(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let i = 0; i < bytes.length; i += 65_536) yield bytes.subarray(i, i + 65_536)
}
