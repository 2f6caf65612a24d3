/** A whole system by TLS alone: what is trusted works, everything else is refused in words. */

import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import pg from 'pg'
import { connect } from '#libs/messaging'
import { peerExpiry } from '#libs/tls'
import { createAuthority } from '../libs/tls/testing.js'
import { startByHand } from './start-by-hand.js'
import { newCommand, TestSystem, until } from './system.js'

let system: TestSystem
beforeAll(async () => {
  system = await TestSystem.start({ tls: true })
}, 240_000)
afterAll(() => system?.stop(), 120_000)

const key = (name: string) => join(system.system.dir, 'keys', name)

interface Check {
  name: string
  ok: boolean
  detail: string
  hint: string | null
}

async function doctor(): Promise<{ code: number; wrong: Check[]; checks: Check[] }> {
  const { code, stdout, stderr } = await system.run(['doctor', '-o', 'json'])
  const { checks } = JSON.parse(stdout || stderr) as { checks: Check[] }
  return { code, checks, wrong: checks.filter(({ ok }) => !ok) }
}

test('a sandbox is made, used, read back and verified, over HTTP and NATS', async () => {
  expect(system.env.SANDTRAIL_URL).toMatch(/^https:/)
  expect(system.env.NATS_URL).toMatch(/^tls:/)
  expect(system.env.DATABASE_URL).toContain('sslmode=verify-full')
  const sandbox = await system.ok('create', '--name', 'encrypted', '--volume', 'data:/data')
  const echoed = await system.run(['exec', 'encrypted', '--', 'cat'], { stdin: 'there and back' })
  expect(echoed).toMatchObject({ code: 0, stdout: 'there and back' })
  // A snapshot, and a sandbox of it: the workers' fetches go by TLS too.
  const snapshot = await system.ok('snapshot', 'encrypted')
  expect(await system.ok('run', '--image', snapshot, '--', 'echo', 'again')).toBe('again')

  const nats = await system.nats()
  const { sandboxId } = await nats.request('req.sandbox.create', {}, { headers: newCommand() })
  await nats.request('req.sandbox.terminate', { sandboxId: sandboxId! }, { headers: newCommand() })
  await nats.close()
  await system.ok('rm', sandbox)
  expect(await system.run(['verify'])).toMatchObject({ code: 0 })
  const offline = [
    '--database-url',
    system.env.DATABASE_URL!,
    '--trail-file',
    system.env.SANDTRAIL_TRAIL_FILE!,
  ]
  const verified = await system.run([
    'verify',
    ...offline,
    '--public-key',
    system.env.SANDTRAIL_TRAIL_PUBLIC_KEY!,
  ])
  expect(verified).toMatchObject({ code: 0 })
}, 180_000)

test('plaintext is refused at each door, and who cannot verify is told what is missing', async () => {
  const url = new URL(system.env.SANDTRAIL_URL!)
  const plain = await fetch(`http://127.0.0.1:${url.port}/v1/whoami`)
  expect(plain.status).toBe(400)
  expect(await plain.json()).toMatchObject({ error: { message: expect.stringContaining('speaks TLS') } })
  const cli = (changes: Record<string, string>) => {
    const before = { ...system.env }
    Object.assign(system.env, changes)
    return system.run(['ps']).finally(() => Object.assign(system.env, before))
  }
  expect(await cli({ SANDTRAIL_URL: `http://127.0.0.1:${url.port}` })).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('use https://'),
  })
  expect(await cli({ SANDTRAIL_CA_FILE: '' })).toMatchObject({
    code: 7,
    stderr: expect.stringMatching(/TLS_FAILED[\s\S]*SANDTRAIL_CA_FILE/),
  })
  expect(await cli({ SANDTRAIL_URL: `https://localhost:${url.port}` })).toMatchObject({ code: 0 })
  expect(await cli({ SANDTRAIL_URL: `https://127.0.0.2:${url.port}` })).toMatchObject({ code: 7 })

  const credentials = { user: system.env.NATS_USER!, password: system.env.NATS_PASSWORD! }
  const servers = system.env.NATS_URL!.replace('tls:', 'nats:')
  await expect(connect({ servers, name: 'test', credentials })).rejects.toMatchObject({ code: 'TLS_FAILED' })

  const database = new pg.Client({ connectionString: system.env.DATABASE_URL!.replace(/\?.*/, '') })
  await expect(database.connect()).rejects.toThrow(/no encryption/)
}, 60_000)

test('a service that cannot trust its peers, or prove itself, does not start, and one line says why', async () => {
  const other = createAuthority()
  const refused = async (name: string, changes: Record<string, string>, code: string, text: RegExp) => {
    const { code: exit, lines } = await startByHand(system.system, name, changes)
    const loud = lines.filter(({ level = 60 }) => level > 40)
    expect({ name, exit, loud }).toEqual({
      name,
      exit: 1,
      loud: [expect.objectContaining({ code, msg: expect.stringMatching(text) })],
    })
  }
  const databaseUrl = system.env.DATABASE_URL!
  const strange = `${databaseUrl.replace(/\?.*/, '')}?sslmode=verify-full&sslrootcert=${other.caFile}`
  const expired = other.issue('expired', { days: -1 })
  const mine = other.issue('gateway')
  try {
    const cannot = (text: string) => new RegExp(`^cannot start: .*${text}.*to do: `)
    const ca = { SANDTRAIL_CA_FILE: other.caFile }
    // The worker has no database: what it meets first is the broker.
    await refused(
      'worker-1',
      { ...ca, SANDTRAIL_WORKER_STATE_DIR: join(other.dir, 'worker') },
      'TLS_FAILED',
      cannot('the broker: its certificate is not of an authority'),
    )
    for (const name of ['scheduler-1', 'snapshotter', 'gateway', 'volume-syncer']) {
      await refused(
        name,
        { SANDTRAIL_DATABASE_URL: strange },
        'TLS_FAILED',
        cannot('the database: its certificate is not of an authority'),
      )
    }
    await refused(
      'snapshotter',
      { SANDTRAIL_DATABASE_URL: databaseUrl.replace(/\?.*/, '') },
      'TLS_FAILED',
      cannot('the database: it is spoken to without TLS'),
    )
    await refused(
      'snapshotter',
      { SANDTRAIL_NATS_URL: system.env.NATS_URL!.replace('tls:', 'nats:') },
      'TLS_FAILED',
      cannot('the broker wants TLS'),
    )
    const pair = (cert: string, file: string) => ({
      SANDTRAIL_HTTP_TLS_CERT_FILE: cert,
      SANDTRAIL_HTTP_TLS_KEY_FILE: file,
    })
    await refused('gateway', pair('/absent', mine.keyFile), 'CONFIG_INVALID', /cannot read the file \/absent/)
    await refused('gateway', pair(expired.certFile, expired.keyFile), 'CONFIG_INVALID', /has expired on/)
    await refused(
      'gateway',
      pair(mine.certFile, expired.keyFile),
      'CONFIG_INVALID',
      /is not that of the certificate/,
    )
  } finally {
    other.close()
  }
}, 240_000)

test('doctor finds all well, then a certificate that ends soon, one that does not fit, and a secret that others can read', async () => {
  const well = await until(async () => {
    const found = await doctor()
    return found.code === 0 && found
  })
  const names = [
    'encryption',
    'HTTP encryption',
    'broker encryption',
    'database encryption',
    'secret files',
    'database version',
  ]
  expect(well.checks.map(({ name }) => name)).toEqual(expect.arrayContaining(names))
  expect(well.checks.find(({ name }) => name === 'database encryption')?.detail).toMatch(
    /TLS; .* valid until/,
  )

  const dir = mkdtempSync(join(tmpdir(), 'sandtrail-kept-'))
  const kept = ['gateway-tls.pem', 'gateway-tls.key']
  for (const name of kept) copyFileSync(key(name), join(dir, name))
  const port = Number(new URL(system.env.SANDTRAIL_URL!).port)
  const shown = () => peerExpiry({ protocol: 'https', host: '127.0.0.1', port })
  const before = await shown()
  const other = createAuthority()
  try {
    // Of another authority, so that the client does not trust it: the gateway shows what it is given, within seconds.
    const soon = other.issue('soon', { days: 5 })
    copyFileSync(soon.keyFile, key('gateway-tls.key'))
    await until(async () =>
      (await doctor()).wrong.some(
        ({ name, detail }) => name === 'HTTP encryption' && detail.includes('not in use'),
      ),
    )
    copyFileSync(soon.certFile, key('gateway-tls.pem'))
    await until(async () => (await shown()) < before)
    // Whoever trusts it is told when it ends, by the server's side and by the client's.
    const both = join(dir, 'both.pem')
    writeFileSync(both, [key('ca.pem'), other.caFile].map((file) => readFileSync(file, 'utf8')).join(''))
    const trusted = system.env.SANDTRAIL_CA_FILE!
    system.env.SANDTRAIL_CA_FILE = both
    const { wrong } = await doctor()
    system.env.SANDTRAIL_CA_FILE = trusted
    expect(wrong.map(({ name }) => name)).toEqual(expect.arrayContaining(['encryption', 'HTTP encryption']))
    for (const check of wrong) expect(check.hint).toEqual(expect.any(String))
    expect(wrong.find(({ name }) => name === 'HTTP encryption')?.detail).toContain('expires on')
  } finally {
    for (const name of kept) copyFileSync(join(dir, name), key(name))
    other.close()
    rmSync(dir, { recursive: true })
  }
  await until(async () => +(await shown()) === +before)

  chmodSync(key('platform.json'), 0o644)
  const { wrong } = await doctor()
  chmodSync(key('platform.json'), 0o600)
  expect(wrong).toEqual([
    {
      name: 'secret files',
      ok: false,
      detail: expect.stringContaining('platform.json'),
      hint: expect.stringContaining('chmod 600'),
    },
  ])
  expect((await doctor()).code).toBe(0)
}, 180_000)
