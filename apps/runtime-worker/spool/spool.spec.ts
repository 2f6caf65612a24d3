import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statfsSync,
  utimesSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, expect, test } from '@jest/globals'
import { SEGMENT_BYTES } from './segments.js'
import { type ExecOutput, Spool, type SpoolLimits } from './spool.js'

const root = mkdtempSync(join(tmpdir(), 'sandtrail-spool-'))
afterAll(() => rmSync(root, { recursive: true }))

const SANDBOX = 'sb-01JTESTTESTTESTTESTTESTTE0'
const OTHER_SANDBOX = 'sb-01JTESTTESTTESTTESTTESTTE1'
const EXEC = 'ex-01JTESTTESTTESTTESTTESTTE0'
const sha256 = (data: Buffer) => createHash('sha256').update(data).digest('hex')
const KEEP_MS = 3_600_000
const NEVER = new AbortController().signal

let count = 0
function newSpool(streamBytesMax = 2 * 1024 ** 3, more: Partial<SpoolLimits> = {}) {
  const dir = join(root, `${count++}`)
  const limits = { streamBytesMax, sandboxBytesMax: 8 * 1024 ** 3, keepMs: KEEP_MS, reserveBytes: 0, ...more }
  return { dir, spool: new Spool(dir, limits), again: () => new Spool(dir, limits) }
}

test('what is written can be read from any offset, and its end tells count and digest', async () => {
  const { spool } = newSpool()
  const { stdout } = spool.open(SANDBOX, EXEC)
  await stdout.append(0, Buffer.from('hello '))
  await stdout.append(6, Buffer.from('world'))
  expect((await stdout.read(4, 100))?.toString()).toBe('o world')
  expect(await stdout.finish()).toEqual({
    bytes: 11,
    droppedBytes: 0,
    sha256: sha256(Buffer.from('hello world')),
  })
})

test('bytes that come twice are taken once, and a gap is refused', async () => {
  const { spool } = newSpool()
  const { stdout } = spool.open(SANDBOX, EXEC)
  await stdout.append(0, Buffer.from('abc'))
  await stdout.append(1, Buffer.from('bcd'))
  await stdout.append(0, Buffer.from('ab'))
  await expect(stdout.append(9, Buffer.from('x'))).rejects.toMatchObject({ code: 'INTERNAL' })
  expect((await stdout.finish()).bytes).toBe(4)
})

test('a restart goes on at the size of the files, with the digest of everything', async () => {
  const { spool, again } = newSpool()
  const first = randomBytes(3_000_000)
  await spool.open(SANDBOX, EXEC).stdout.append(0, first)
  const { stdout } = again().open(SANDBOX, EXEC)
  expect(stdout.end).toBe(first.length)
  const second = randomBytes(1000)
  await stdout.append(first.length, second)
  expect((await stdout.finish()).sha256).toBe(sha256(Buffer.concat([first, second])))
})

test('over the quota the oldest segments go, are counted, and stay in the digest, also over a restart', async () => {
  const { spool, again } = newSpool(2 * SEGMENT_BYTES)
  const data = randomBytes(4 * SEGMENT_BYTES + 12_345)
  const cut = 3 * SEGMENT_BYTES + 77
  const before = spool.open(SANDBOX, EXEC).stdout
  for (let at = 0; at < cut; at += 1_000_000)
    await before.append(at, data.subarray(at, Math.min(at + 1_000_000, cut)))
  expect(before.first).toBe(2 * SEGMENT_BYTES)
  const { stdout } = again().open(SANDBOX, EXEC)
  await stdout.append(cut, data.subarray(cut))
  expect(await stdout.read(0, 10)).toBeNull()
  expect(await stdout.read(data.length - 5, 10)).toEqual(data.subarray(-5))
  expect(await stdout.finish()).toEqual({
    bytes: data.length,
    droppedBytes: 3 * SEGMENT_BYTES,
    sha256: sha256(data),
  })
})

/** Writes `bytes` in pieces, as an agent's window would. */
async function write({ stdout }: ExecOutput, bytes: number) {
  const piece = Buffer.alloc(4 * 1024 ** 2)
  const end = stdout.end + bytes
  while (stdout.end < end) await stdout.append(stdout.end, piece.subarray(0, end - stdout.end))
}
const OTHER = 'ex-01JTESTTESTTESTTESTTESTTE1'
const LATEST = 'ex-01JTESTTESTTESTTESTTESTTE2'

test('over the budget of its sandbox the output of ended execs goes, the first to end first, also after a restart', async () => {
  const { spool, again, dir } = newSpool(undefined, { sandboxBytesMax: 3 * SEGMENT_BYTES })
  for (const exec of [EXEC, OTHER] as const) {
    const output = spool.open(SANDBOX, exec)
    await write(output, SEGMENT_BYTES)
    await output.finish()
    spool.release(SANDBOX, exec)
  }
  const old = Date.now() / 1000 - 60
  for (const path of [join(dir, SANDBOX, EXEC), join(dir, SANDBOX, EXEC, 'stdout.0')])
    utimesSync(path, old, old)
  const restarted = again()
  const latest = restarted.open(SANDBOX, LATEST)
  await write(latest, SEGMENT_BYTES)
  expect(restarted.find(SANDBOX, EXEC)).not.toBeNull()
  await write(latest, 1)
  expect(restarted.find(SANDBOX, EXEC)).toBeNull()
  expect(restarted.find(SANDBOX, OTHER)).not.toBeNull()
  // Then its own oldest: the newest segment stays.
  await write(latest, 4 * SEGMENT_BYTES)
  expect(restarted.find(SANDBOX, OTHER)).toBeNull()
  expect(latest.stdout.first).toBe(3 * SEGMENT_BYTES)
  expect((await latest.finish()).stdout).toMatchObject({ bytes: 5 * SEGMENT_BYTES + 1 })
})

test('output leaves the reserve of the disk alone: what has ended goes, who writes much loses its oldest', async () => {
  const disk = join(root, 'disk')
  mkdirSync(disk)
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${4 * SEGMENT_BYTES}`, 'spool', disk])
  try {
    const limits = {
      keepMs: KEEP_MS,
      streamBytesMax: 1024 ** 3,
      sandboxBytesMax: 1024 ** 3,
      reserveBytes: SEGMENT_BYTES,
    }
    const spool = new Spool(disk, limits)
    const ended = spool.open(SANDBOX, EXEC)
    await write(ended, SEGMENT_BYTES)
    await ended.finish()
    spool.release(SANDBOX, EXEC)
    const live = spool.open(OTHER_SANDBOX, OTHER)
    await write(live, 4 * SEGMENT_BYTES)
    expect(spool.find(SANDBOX, EXEC)).toBeNull()
    expect(live.stdout.first).toBeGreaterThan(0)
    const { bavail, bsize } = statfsSync(disk)
    expect(bavail * bsize).toBeGreaterThanOrEqual(SEGMENT_BYTES - 64 * 1024)
    expect((await live.finish()).stdout.bytes).toBe(4 * SEGMENT_BYTES)
  } finally {
    execFileSync('umount', ['-l', disk])
  }
})

test('a reader that follows is woken by bytes and by the end', async () => {
  const { spool } = newSpool()
  const { stdout } = spool.open(SANDBOX, EXEC)
  const bytes = stdout.readable(0, NEVER)
  await stdout.append(0, Buffer.from('x'))
  await bytes
  const end = stdout.readable(1, NEVER)
  await stdout.finish()
  await end
})

test('an ended exec is read from its files; an unknown one is not found', async () => {
  const { spool } = newSpool()
  await spool.open(SANDBOX, EXEC).stdout.append(0, Buffer.from('x'))
  spool.release(SANDBOX, EXEC)
  const found = spool.find(SANDBOX, EXEC)
  expect(found?.stdout.isEnded).toBe(true)
  expect((await found?.stdout.read(0, 10))?.toString()).toBe('x')
  expect(spool.find(SANDBOX, 'main')).toBeNull()
})

test('an exec that is lost leaves no file open', async () => {
  const { dir, spool } = newSpool()
  const { stdout } = spool.open(SANDBOX, EXEC)
  await stdout.append(0, Buffer.from('x'))
  const isOpen = () =>
    readdirSync('/proc/self/fd').some((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith(dir)
      } catch {
        return false // The one that reads the directory.
      }
    })
  expect(isOpen()).toBe(true)
  spool.release(SANDBOX, EXEC)
  while (isOpen()) await delay(10)
  expect((await spool.find(SANDBOX, EXEC)?.stdout.read(0, 10))?.toString()).toBe('x')
})

test('output goes when its time is over, that of a live exec never', async () => {
  const { dir, spool } = newSpool()
  spool.open(SANDBOX, EXEC)
  spool.open(SANDBOX, 'main')
  spool.release(SANDBOX, EXEC)
  const old = (Date.now() - KEEP_MS - 1000) / 1000
  for (const exec of [EXEC, 'main']) utimesSync(join(dir, SANDBOX, exec), old, old)
  expect(await spool.removeOld(Date.now(), true)).toMatchObject({ execs: 1 })
  expect(existsSync(join(dir, SANDBOX, EXEC))).toBe(true)
  expect(await spool.removeOld(Date.now(), false)).toMatchObject({ execs: 1 })
  expect(existsSync(join(dir, SANDBOX, EXEC))).toBe(false)
  expect(existsSync(join(dir, SANDBOX, 'main'))).toBe(true)
})
