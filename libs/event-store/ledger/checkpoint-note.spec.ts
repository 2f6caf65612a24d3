import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from '@jest/globals'
import { createSignerKey, loadSigner, openCheckpoint } from './checkpoint-note.js'

const dir = mkdtempSync(join(tmpdir(), 'sandtrail-note-'))
afterAll(() => rmSync(dir, { recursive: true }))

const signer = (name: string, origin = 'log.example/test') => {
  const path = join(dir, name)
  createSignerKey(path)
  return loadSigner(path, origin)
}
const root = Buffer.alloc(32, 7)

test('a signed checkpoint opens with its key and has the text of C2SP', () => {
  const ours = signer('a')
  const note = ours.sign(12, root)
  expect(note.split('\n').slice(0, 4)).toEqual(['log.example/test', '12', root.toString('base64'), ''])
  expect(openCheckpoint(note, ours.publicKey)).toEqual({ origin: 'log.example/test', size: 12, root })
})

test('any changed character of a checkpoint makes it void', () => {
  const ours = signer('b')
  const note = ours.sign(12, root)
  for (let i = 0; i < note.length - 1; i++) {
    const flipped = note.slice(0, i) + String.fromCharCode(note.charCodeAt(i) ^ 1) + note.slice(i + 1)
    expect(openCheckpoint(flipped, ours.publicKey)).toBeNull()
  }
})

test('a checkpoint of another key or another log is not ours', () => {
  const ours = signer('c')
  expect(openCheckpoint(signer('d').sign(1, root), ours.publicKey)).toBeNull()
  expect(openCheckpoint(signer('e', 'other').sign(1, root), ours.publicKey)).toBeNull()
})

test('a key that others can read is refused', () => {
  signer('f')
  chmodSync(join(dir, 'f'), 0o644)
  expect(() => loadSigner(join(dir, 'f'), 'log')).toThrow('can be read by others')
})
