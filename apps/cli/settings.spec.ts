import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { keepSettings, readSettings } from './settings.js'

const kept = { url: 'https://one.example', token: 'st_secret', caFile: '/etc/sandtrail/ca.pem' }
let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'sandtrail-home-'))
})
afterEach(() => rmSync(home, { recursive: true }))

test('what login kept is read back, and only its owner may read the file', () => {
  const file = keepSettings(kept, { HOME: home })
  expect(statSync(file).mode & 0o777).toBe(0o600)
  expect(readSettings({ HOME: home })).toEqual(kept)
})

test('an older file that others could read becomes private', () => {
  const file = join(home, '.config/sandtrail/config.json')
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, '{}')
  chmodSync(file, 0o644)
  keepSettings(kept, { HOME: home })
  expect(statSync(file).mode & 0o777).toBe(0o600)
})

test('the environment wins, and the kept token never goes to another server', () => {
  keepSettings(kept, { HOME: home })
  expect(readSettings({ HOME: home, SANDTRAIL_URL: 'http://two' })).toEqual({
    url: 'http://two',
    token: null,
    caFile: kept.caFile,
  })
  expect(readSettings({ HOME: home, SANDTRAIL_URL: kept.url })).toEqual(kept)
  expect(readSettings({ HOME: home, SANDTRAIL_TOKEN: 'other' })).toEqual({ ...kept, token: 'other' })
})

test('without anything it is the server of this host, without a token', () => {
  expect(readSettings({ HOME: home })).toEqual({ url: 'http://127.0.0.1:8480', token: null, caFile: null })
})

test('a file that is damaged is told', () => {
  mkdirSync(join(home, '.config/sandtrail'), { recursive: true })
  writeFileSync(join(home, '.config/sandtrail/config.json'), '{')
  expect(() => readSettings({ HOME: home })).toThrow('sandtrail login')
})
