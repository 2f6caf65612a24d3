import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from '@jest/globals'
import { createSignerKey, loadSigner } from './checkpoint-note.js'
import { MerkleFrontier } from './merkle.js'
import { compareTrails, copyTrail } from './trail-copy.js'
import { entryLine } from './trail-file.js'

const dir = mkdtempSync(join(tmpdir(), 'sandtrail-trail-copy-'))
afterAll(() => rmSync(dir, { recursive: true }))
createSignerKey(join(dir, 'key'))
const signer = loadSigner(join(dir, 'key'), 'test')

const line = (position: number, hash = 'aa') =>
  entryLine({ position, stream: `sb-${position % 2}`, version: position, hash })

/** A file of `count` entries with a checkpoint after each. */
function fileOf(name: string, count: number, change: (lines: string[]) => void = () => {}): string {
  const tree = new MerkleFrontier()
  const lines = []
  for (let position = 1; position <= count; position++) {
    lines.push(line(position))
    tree.append(line(position))
    lines.push(JSON.stringify({ checkpoint: signer.sign(tree.size, tree.root()) }))
  }
  change(lines)
  writeFileSync(join(dir, name), `${lines.join('\n')}\n`)
  return join(dir, name)
}

test('a copy ends with its position: no later entry, no checkpoint of a larger tree, nothing twice or torn', async () => {
  const from = fileOf('whole', 5, (lines) => lines.splice(4, 0, line(2), '{"position":3,"str'))
  const to = join(dir, 'copy')
  expect(await copyTrail(from, to, { position: 3, publicKey: signer.publicKey })).toEqual({
    entries: 3,
    checkpoints: 3,
  })
  expect(readFileSync(to, 'utf8')).toBe(readFileSync(fileOf('three', 3), 'utf8'))
})

test('the file at hand tells what is lost beyond the backup', async () => {
  const backup = fileOf('backup', 3)
  const same = { last: 3, lostEvents: 0, lostStreams: 0, differsAt: null }
  expect(await compareTrails(fileOf('same', 3), backup, 3)).toEqual(same)
  expect(await compareTrails(fileOf('longer', 6), backup, 3)).toEqual({
    last: 6,
    lostEvents: 3,
    lostStreams: 2,
    differsAt: null,
  })
  // Ahead of the copy, not of the ledger that the backup has.
  expect(await compareTrails(fileOf('ahead', 4), backup, 4)).toEqual({ ...same, last: 4 })
  expect(await compareTrails(join(dir, 'none'), backup, 3)).toEqual({ ...same, last: 0 })
})

test('a file of another log is told by the first position that differs', async () => {
  const other = fileOf('other', 5, (lines) => {
    lines[2] = line(2, 'bb')
  })
  expect(await compareTrails(other, fileOf('backup', 3), 3)).toMatchObject({ differsAt: 2 })
})
