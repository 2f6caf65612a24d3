import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from '@jest/globals'
import { natsCredentialsFile, readConfig } from './config.js'

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
