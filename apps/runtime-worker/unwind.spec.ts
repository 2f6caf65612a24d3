import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { type Undoers, UndoLog, unwind } from './unwind.js'

type Thing = { kind: 'thing'; name: string }

let dir: string
let log: UndoLog<Thing>
/** The host of this test: what exists on it. */
let host: Set<string>
/** What refuses to go, as a busy mount does. */
let stuck: Set<string>
let undone: string[]

const undoers: Undoers<Thing> = {
  thing: {
    undo: async ({ name }) => {
      undone.push(name)
      if (!stuck.has(name)) host.delete(name)
    },
    isGone: async ({ name }) => !host.has(name),
  },
}

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sandtrail-undo-'))
  log = new UndoLog(join(dir, 'undo.jsonl'))
  host = new Set(['a', 'b', 'c'])
  stuck = new Set()
  undone = []
})
afterEach(() => rm(dir, { recursive: true }))

const things = (...names: string[]): Thing[] => names.map((name) => ({ kind: 'thing', name }))
const undoAll = () => unwind(log, undoers, () => {})

test('records are undone newest first', async () => {
  await log.add(things('a', 'b'))
  await log.add(things('c'))
  expect(await undoAll()).toEqual([])
  expect(undone).toEqual(['c', 'b', 'a'])
  expect(host.size).toBe(0)
})

test('what will not go keeps its record, and so does everything that it stands on', async () => {
  stuck.add('b')
  await log.add(things('a', 'b', 'c'))
  expect(await undoAll()).toEqual(things('b', 'a'))
  expect([...host]).toEqual(['a', 'b'])

  stuck.clear()
  undone = []
  expect(await undoAll()).toEqual([])
  expect(undone).toEqual(['b', 'a'])
})

test('an undoer that throws is one whose thing would not go', async () => {
  await log.add(things('a'))
  const errors: unknown[] = []
  const failing = { thing: { ...undoers.thing, undo: () => Promise.reject(new Error('busy')) } }
  expect(await unwind(log, failing, (_, error) => errors.push(error))).toEqual(things('a'))
  expect(errors).toEqual([new Error('busy')])
})

test('a second run undoes nothing twice', async () => {
  await log.add(things('a', 'b', 'c'))
  await undoAll()
  expect(await undoAll()).toEqual([])
  expect(undone).toHaveLength(3)
})

test('no log is an empty log', async () => {
  expect(await undoAll()).toEqual([])
})

test('a file cut at any byte loses no record that was synced, and takes new ones', async () => {
  const path = join(dir, 'undo.jsonl')
  await log.add(things('a'))
  const synced = await readFile(path)
  await log.add(things('b'))
  const whole = await readFile(path)
  for (let length = synced.length; length < whole.length; length++) {
    await writeFile(path, whole.subarray(0, length))
    const names = (await log.newestFirst()).map(({ record }) => record.name)
    expect(names).toContain('a')
    await log.add(things('c'))
    const after = (await log.newestFirst()).map(({ record }) => record.name)
    expect(after.filter((name) => name !== 'b')).toEqual(['c', 'a'])
  }
})

test('garbage between records is passed over', async () => {
  await log.add(things('a'))
  await appendFile(join(dir, 'undo.jsonl'), '\0\0\0{"rec')
  await log.add(things('b'))
  expect((await log.newestFirst()).map(({ record }) => record.name)).toEqual(['b', 'a'])
})
