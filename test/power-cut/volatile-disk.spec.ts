/** The rig is worth what its disk forgets: a client that speaks NBD writes, flushes, and loses its power. */

import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { Random } from '../faults/random.js'
import { VolatileDisk } from './volatile-disk.js'

const BLOCK = 4096
const [READ, WRITE, FLUSH] = [0, 1, 3]
const FUA = 1

let home: string
let disk: VolatileDisk
let socket: Socket

beforeEach(async () => {
  home = mkdtempSync(join(tmpdir(), 'sandtrail-disk-'))
  writeFileSync(join(home, 'image'), Buffer.alloc(100 * BLOCK))
  disk = new VolatileDisk(join(home, 'image'), new Random(1))
  await disk.listen(join(home, 'disk'))
  socket = connect(join(home, 'disk'))
  await receive(18)
  const go = Buffer.alloc(4 + 16 + 6)
  go.writeUInt32BE(1 | 2)
  go.write('IHAVEOPT', 4)
  go.writeUInt32BE(7, 12)
  go.writeUInt32BE(6, 16) // An empty name, and no wishes.
  socket.write(go)
  await receive(20 + 12 + 20)
})
afterEach(async () => {
  await disk.close()
  rmSync(home, { recursive: true })
})

async function receive(bytes: number): Promise<Buffer> {
  for (;;) {
    const data = socket.read(bytes) as Buffer | null
    if (data !== null) return data
    await once(socket, 'readable')
  }
}

/** @returns what was read; throws what the disk refuses */
async function ask(type: number, block: number, data?: Buffer, flags = 0): Promise<Buffer> {
  const request = Buffer.alloc(28)
  request.writeUInt32BE(0x25609513)
  request.writeUInt16BE(flags, 4)
  request.writeUInt16BE(type, 6)
  request.writeBigUInt64BE(BigInt(block * BLOCK), 16)
  request.writeUInt32BE(type === FLUSH ? 0 : (data?.length ?? BLOCK), 24)
  socket.write(type === WRITE ? Buffer.concat([request, data!]) : request)
  const error = (await receive(16)).readUInt32BE(4)
  if (error !== 0) throw new Error(`error ${error}`)
  return type === READ ? receive(BLOCK) : Buffer.alloc(0)
}

const full = (byte: number) => Buffer.alloc(BLOCK, byte)
const onDisk = (block: number) =>
  readFileSync(join(home, 'image')).subarray(block * BLOCK, (block + 1) * BLOCK)

test('what was written is read back, and is on the disk with the flush', async () => {
  await ask(WRITE, 3, full(1))
  expect(await ask(READ, 3)).toEqual(full(1))
  expect(onDisk(3)).toEqual(full(0))
  await ask(FLUSH, 0)
  expect(onDisk(3)).toEqual(full(1))
  expect(disk.cut()).toEqual({ lost: 0, kept: 0 })
})

test('a write with FUA is on the disk at once, and no other for its sake', async () => {
  await ask(WRITE, 1, full(1))
  await ask(WRITE, 2, full(2), FUA)
  expect(onDisk(1)).toEqual(full(0))
  expect(onDisk(2)).toEqual(full(2))
})

test('a cut takes some of what was not flushed, and nothing else', async () => {
  for (let block = 0; block < 100; block++) await ask(WRITE, block, full(1))
  await ask(FLUSH, 0)
  for (let block = 0; block < 50; block++) await ask(WRITE, block, full(2))
  const { lost, kept } = disk.cut()
  expect(lost + kept).toBe(50)
  expect(lost).toBeGreaterThan(10)
  expect(kept).toBeGreaterThan(10)
  const blocks = Array.from({ length: 100 }, (_, block) => onDisk(block)[0])
  expect(blocks.slice(0, 50).filter((byte) => byte === 1)).toHaveLength(lost)
  expect(new Set(blocks.slice(50))).toEqual(new Set([1]))
})

test('a write within a block leaves the rest of it as it was', async () => {
  await ask(WRITE, 5, full(1))
  await ask(WRITE, 5, Buffer.alloc(512, 2))
  expect(await ask(READ, 5)).toEqual(Buffer.concat([Buffer.alloc(512, 2), Buffer.alloc(BLOCK - 512, 1)]))
})

test('nothing is behind the end', async () => {
  await expect(ask(READ, 100)).rejects.toThrow('error 22')
  await expect(ask(WRITE, 100, full(1))).rejects.toThrow('error 22')
  expect(await ask(READ, 99)).toEqual(full(0))
})
