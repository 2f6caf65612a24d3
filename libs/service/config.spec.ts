import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from '@jest/globals'
import { key32File, natsCredentialsFile, readConfig } from './config.js'

const dir = mkdtempSync(join(tmpdir(), 'sandtrail-config-'))
afterAll(() => rmSync(dir, { recursive: true }))

function fileWith(content: string, mode = 0o600): string {
  const path = join(dir, 'file')
  writeFileSync(path, content)
  chmodSync(path, mode)
  return path
}

test('credentials that are no JSON are a fault like any other, and are not quoted', () => {
  const read = () =>
    readConfig({ SANDTRAIL_FILE: natsCredentialsFile }, { SANDTRAIL_FILE: fileWith('{"password": hunter2}') })
  expect(read).toThrow('SANDTRAIL_FILE: must hold {"user","password"} or {"nkeySeed"}')
  expect(read).not.toThrow(/hunter2/)
})

test('a key that others can read is refused, and so is what is no key', () => {
  const read = (content: string, mode?: number) =>
    readConfig({ SANDTRAIL_FILE: key32File }, { SANDTRAIL_FILE: fileWith(content, mode) }).SANDTRAIL_FILE
  const key = Buffer.alloc(32, 7)
  expect(read(`${key.toString('base64')}\n`)).toEqual(key)
  expect(() => read(key.toString('base64'), 0o640)).toThrow(/SANDTRAIL_FILE: others can read .*: chmod 600/)
  expect(() => read('too short')).toThrow('SANDTRAIL_FILE: must hold 32 bytes in base64')
  const absent = { SANDTRAIL_FILE: join(dir, 'absent') }
  expect(() => readConfig({ SANDTRAIL_FILE: key32File }, absent)).toThrow('cannot read the file')
})
