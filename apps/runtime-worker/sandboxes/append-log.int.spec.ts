/** On a filesystem of its own that can be filled. */

import { execFileSync } from 'node:child_process'
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals'
import { AppendLog } from './append-log.js'
import { Journal } from './journal.js'

const DISK_BYTES = 128 * 1024
let root: string
let dir: string
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'sandtrail-full-'))
})
beforeEach(() => {
  dir = join(root, 'disk')
  mkdirSync(dir)
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_BYTES}`, 'full', dir])
})
afterEach(() => {
  execFileSync('umount', ['-l', dir])
  rmSync(dir, { recursive: true })
})
afterAll(() => rmSync(root, { recursive: true }))

const filler = () => join(dir, 'filler')
function fill() {
  const fd = openSync(filler(), 'w')
  try {
    for (;;) writeSync(fd, Buffer.alloc(4096))
  } catch (error) {
    expect((error as NodeJS.ErrnoException).code).toBe('ENOSPC')
  } finally {
    closeSync(fd)
  }
}
const makeRoom = () => rmSync(filler())

const LONG = 'x'.repeat(8192)
const EXEC = 'ex-01JTESTTESTTESTTESTTESTTE0'

test('a rewrite that a full disk stops leaves the file as it was, and nothing else', async () => {
  const path = join(dir, 'log.jsonl')
  const { log } = AppendLog.open<string>(path)
  log.append('one', 'two')
  fill()
  const descriptors = readdirSync('/proc/self/fd').length
  let written = false
  const onWritten = () => {
    written = true
  }
  await expect(log.rewrite(() => ['one', LONG], onWritten)).rejects.toMatchObject({ code: 'NO_SPACE' })
  expect(written).toBe(false)
  expect(readdirSync('/proc/self/fd')).toHaveLength(descriptors)
  expect(readdirSync(dir).sort()).toEqual(['filler', 'log.jsonl'])
  makeRoom()
  log.append('three')
  expect(AppendLog.open<string>(path).entries).toEqual(['one', 'two', 'three'])
  await log.rewrite(() => ['all'], onWritten)
  log.append('four')
  expect(AppendLog.open<string>(path).entries).toEqual(['all', 'four'])
})

test('a log that is closed twice closes no file of another', async () => {
  const { log } = AppendLog.open<string>(join(dir, 'log.jsonl'))
  await log.close()
  // The kernel gives the lowest number that is free: the one that the log had.
  const path = join(dir, 'other')
  const other = openSync(path, 'w')
  await log.close()
  writeSync(other, 'still open')
  closeSync(other)
  expect(readFileSync(path, 'utf8')).toBe('still open')
})

test('what happens while the disk is full counts at once and is on the disk once there is room', async () => {
  const journal = Journal.open(dir)
  fill()
  expect(() => journal.append({ kind: 'exec-cancelled', execId: EXEC })).toThrow(
    expect.objectContaining({ code: 'NO_SPACE' }),
  )
  expect(journal.state.execs.size).toBe(0)

  journal.note({ kind: 'ending', cause: { kind: 'stopped' } })
  journal.report({ kind: 'sandbox-ended', ending: { kind: 'stopped' }, staged: [] })
  expect(journal.state).toMatchObject({ cause: { kind: 'stopped' }, ended: true })
  await expect(journal.sync()).rejects.toMatchObject({ code: 'NO_SPACE' })
  expect(Journal.open(dir).state.cause).toBeNull()

  makeRoom()
  await journal.sync()
  expect(Journal.open(dir).state).toMatchObject({ cause: { kind: 'stopped' }, ended: true, factSeq: 1 })
})
