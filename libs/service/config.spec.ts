import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from '@jest/globals'
import { z } from 'zod'
import { createAuthority } from '../tls/testing.js'
import { commonConfig, databaseUrl, integer, key32File, natsCredentialsFile, readConfig } from './config.js'

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

const authority = createAuthority()
afterAll(() => authority.close())

/** As the gateway has it. */
const shape = {
  ...commonConfig,
  SANDTRAIL_DATABASE_URL: databaseUrl,
  SANDTRAIL_HTTP_HOST: z.string().default('127.0.0.1'),
  SANDTRAIL_HTTP_TLS_CERT_FILE: z.string().optional(),
  SANDTRAIL_HTTP_TLS_KEY_FILE: z.string().optional(),
  SANDTRAIL_PUBLIC_URL: z.string().optional(),
  SANDTRAIL_HTTP_PORT: integer(0, 65_535).default(8480),
}

function read(changes: Record<string, string>) {
  return readConfig(shape, {
    SANDTRAIL_NATS_URL: 'nats://127.0.0.1:4222',
    SANDTRAIL_NATS_CREDENTIALS_FILE: fileWith('{"user":"u","password":"p"}'),
    SANDTRAIL_DATABASE_URL: 'postgres://u:hunter2@127.0.0.1/db',
    ...changes,
  })
}

test('every fault is told in one line with its key, and none with a value', () => {
  const changes = { SANDTRAIL_NATS_URL: '', SANDTRAIL_HTTP_PORT: 'many', SANDTRAIL_MISSPELT: 'x' }
  let error: unknown
  try {
    read(changes)
  } catch (thrown) {
    error = thrown
  }
  expect(error).toMatchObject({ code: 'CONFIG_INVALID', hint: expect.stringContaining('services-env.md') })
  const lines = (error as Error).message.split('; ')
  expect(lines).toEqual([
    expect.stringMatching(
      /^SANDTRAIL_MISSPELT: unknown key$|^SANDTRAIL_NATS_URL: is not set$|^SANDTRAIL_HTTP_PORT: must be a whole number$/,
    ),
    expect.any(String),
    expect.any(String),
  ])
  expect(new Set(lines).size).toBe(3)
  expect((error as Error).message).not.toMatch(/\n|many|hunter2/)
})

test('what leaves this host is encrypted and verified, unless it is allowed not to be', () => {
  expect(() => read({})).not.toThrow()
  const plain = [
    [
      'nats',
      { SANDTRAIL_NATS_URL: 'nats://broker:4222' },
      'SANDTRAIL_NATS_URL: would send passwords in plaintext',
    ],
    ['http', { SANDTRAIL_HTTP_HOST: '0.0.0.0' }, 'SANDTRAIL_HTTP_HOST: is reached from other hosts'],
    ['postgres', { SANDTRAIL_DATABASE_URL: 'postgres://u:p@db/x' }, 'is in plaintext over the network'],
    [
      'postgres',
      { SANDTRAIL_DATABASE_URL: 'postgres://u:p@db/x?sslmode=no-verify' },
      'does not verify the server',
    ],
  ] as const
  for (const [name, changes, fault] of plain) {
    expect(() => read(changes)).toThrow(fault)
    expect(() => read({ ...changes, SANDTRAIL_PLAINTEXT_ALLOWED: name })).not.toThrow()
    const others = ['http', 'nats', 'postgres'].filter((other) => other !== name).join(',')
    expect(() => read({ ...changes, SANDTRAIL_PLAINTEXT_ALLOWED: others })).toThrow(fault)
  }
  expect(() => read({ SANDTRAIL_NATS_URL: 'tls://broker:4222' })).not.toThrow()
  expect(() => read({ SANDTRAIL_PLAINTEXT_ALLOWED: 'all' })).toThrow('must be some of http, nats, postgres')
  // libpq and pg do not mean the same by it.
  expect(() => read({ SANDTRAIL_DATABASE_URL: 'postgres://u:p@127.0.0.1/x?sslmode=require' })).toThrow(
    'use verify-full',
  )
})

test('a certificate that cannot serve stops the start', () => {
  const { certFile, keyFile } = authority.issue('gateway')
  const tls = { SANDTRAIL_HTTP_TLS_CERT_FILE: certFile, SANDTRAIL_HTTP_TLS_KEY_FILE: keyFile }
  const url = { SANDTRAIL_PUBLIC_URL: 'https://gw:8480' }
  expect(() => read({ ...tls, ...url, SANDTRAIL_HTTP_HOST: '0.0.0.0' })).not.toThrow()
  expect(() => read({ ...tls, SANDTRAIL_PUBLIC_URL: 'http://gw:8480' })).toThrow(
    'SANDTRAIL_PUBLIC_URL: must begin with https',
  )
  expect(() => read({ SANDTRAIL_HTTP_TLS_CERT_FILE: certFile })).toThrow(
    'SANDTRAIL_HTTP_TLS_KEY_FILE: is not set',
  )
  const { keyFile: other } = authority.issue('other')
  expect(() => read({ ...tls, ...url, SANDTRAIL_HTTP_TLS_KEY_FILE: other })).toThrow(
    'is not that of the certificate',
  )
  const old = authority.issue('old', { days: -1 })
  expect(() =>
    read({ ...url, SANDTRAIL_HTTP_TLS_CERT_FILE: old.certFile, SANDTRAIL_HTTP_TLS_KEY_FILE: old.keyFile }),
  ).toThrow('has expired')
  expect(() => read({ SANDTRAIL_CA_FILE: keyFile })).toThrow('SANDTRAIL_CA_FILE: ')
})

test("the installation's authority counts for the database too, unless its URL names another", () => {
  const verified = 'postgres://u:p@db/x?sslmode=verify-full'
  const url = (text: string) =>
    new URL(
      read({ SANDTRAIL_DATABASE_URL: text, SANDTRAIL_CA_FILE: authority.caFile }).SANDTRAIL_DATABASE_URL,
    )
  expect(url(verified).searchParams.get('sslrootcert')).toBe(authority.caFile)
  expect(url('postgres://u:p@127.0.0.1/x').search).toBe('')
  expect(() => url(`${verified}&sslrootcert=/absent`)).toThrow(
    'SANDTRAIL_DATABASE_URL: cannot read the file /absent',
  )
})
