import { describe, expect, test } from '@jest/globals'
import { Command } from 'commander'
import {
  parseCount,
  parseCpu,
  parseDuration,
  parseEnv,
  parseMoment,
  parseSize,
  parseTags,
  parseVolume,
  unlimited,
} from './options.js'
import { limitsBody } from './tenant-commands.js'

test.each([
  ['30s', 30_000],
  ['5m', 300_000],
  ['1h', 3_600_000],
  ['1h30m', 5_400_000],
  ['250ms', 250],
  ['90', 90_000],
  ['1.5', 1_500],
])('duration %s', (text, ms) => expect(parseDuration(text)).toBe(ms))

test.each(['', 'x', '5 m', '5y', '-5s', '5m!'])('%j is no duration', (text) => {
  expect(() => parseDuration(text)).toThrow('not a duration')
})

test.each([
  ['256m', 256 * 1024 ** 2],
  ['1g', 1024 ** 3],
  ['256Mi', 256 * 1024 ** 2],
  ['1.5G', 1.5 * 1024 ** 3],
  ['512MiB', 512 * 1024 ** 2],
  ['64kb', 65_536],
  ['1000', 1000],
])('size %s', (text, bytes) => expect(parseSize(text)).toBe(bytes))

test.each(['', 'm', '1x', '-1g', '1g1'])('%j is no size', (text) => {
  expect(() => parseSize(text)).toThrow('not a size')
})

test('cores become thousandths', () => {
  expect([parseCpu('0.5'), parseCpu('2')]).toEqual([500, 2_000])
  for (const text of ['0', 'x', '-1', '1e3']) expect(() => parseCpu(text)).toThrow('not a number of cores')
})

test('a variable without a value takes it from here, and stays away where there is none', () => {
  expect(parseEnv(['A=1', 'B', 'C', 'D=x=y', 'E='], { B: '2' })).toEqual({ A: '1', B: '2', D: 'x=y', E: '' })
  expect(() => parseEnv(['1A=2'], {})).toThrow('not a name')
})

test('tags', () => {
  expect(parseTags(['a=b', 'c=d=e'])).toEqual({ a: 'b', c: 'd=e' })
  expect(() => parseTags(['a'])).toThrow('not a tag')
})

describe('volumes', () => {
  test.each([
    ['data:/data', { volume: 'data', path: '/data', readOnly: false, version: null }],
    ['data:/data:ro', { volume: 'data', path: '/data', readOnly: true, version: null }],
    ['data@3:/old:ro', { volume: 'data', path: '/old', readOnly: true, version: 3 }],
  ])('%s', (text, volume) => expect(parseVolume(text)).toEqual(volume))

  test('an older version is never written', () => {
    expect(() => parseVolume('data@3:/old')).toThrow('older version')
  })
  test.each(['data', 'data:relative', ':/x', 'data:/x:rx'])('%j is none', (text) => {
    expect(() => parseVolume(text)).toThrow('not a volume')
  })
})

test('a moment is a time, or how long ago', () => {
  const now = new Date('2026-01-31T12:00:00Z')
  expect(parseMoment('2026-01-31T10:00:00+01:00', now)).toBe('2026-01-31T09:00:00.000Z')
  expect(parseMoment('2h', now)).toBe('2026-01-31T10:00:00.000Z')
  for (const text of ['yesterday', '2026-99-99']) expect(() => parseMoment(text, now)).toThrow('not a time')
})

test('a limit is a whole number or none', () => {
  const given = (text: string) =>
    new Command()
      .option('--sandboxes <count>', '', unlimited(parseCount))
      .parse(['--sandboxes', text], { from: 'user' })
      .opts()
  expect(limitsBody(given('none'))).toEqual({ sandboxes: null })
  expect(limitsBody(given('12'))).toEqual({ sandboxes: 12 })
  for (const text of ['', '-1', '1.5', '1e9', 'None'])
    expect(() => unlimited(parseCount)(text)).toThrow('whole number')
})
