/** F-29: what a service cannot work with stops its start, with one line that says what to mend. */

import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { startByHand } from './start-by-hand.js'
import { TestSystem } from './system.js'

let system: TestSystem
const dir = mkdtempSync(join(tmpdir(), 'sandtrail-refused-'))
beforeAll(async () => {
  system = await TestSystem.start({ environment: { SANDTRAIL_RUNTIME: 'fake' }, baseImage: false })
}, 240_000)
afterAll(async () => {
  await system?.stop()
  rmSync(dir, { recursive: true })
}, 120_000)

const key = (name: string) => join(system.system.dir, 'keys', name)

function fileWith(name: string, content: string, mode = 0o600): string {
  const path = join(dir, name)
  writeFileSync(path, content)
  chmodSync(path, mode)
  return path
}

/** A copy that others can read. */
function open(name: string): string {
  const path = join(dir, `open-${name}`)
  copyFileSync(key(name), path)
  chmodSync(path, 0o644)
  return path
}

/** Files that hold secrets, by service: the key, and the file that it names. */
const SECRETS: Record<string, Record<string, string>> = {
  'scheduler-1': {
    SANDTRAIL_NATS_CREDENTIALS_FILE: 'platform.json',
    SANDTRAIL_MASTER_KEY_FILE: 'master.key',
    SANDTRAIL_TRAIL_KEY_FILE: 'trail.key',
  },
  snapshotter: { SANDTRAIL_NATS_CREDENTIALS_FILE: 'platform.json', SANDTRAIL_BLOB_KEY_FILE: 'blob.key' },
  'volume-syncer': { SANDTRAIL_NATS_CREDENTIALS_FILE: 'platform.json' },
  gateway: {
    SANDTRAIL_NATS_CREDENTIALS_FILE: 'platform.json',
    SANDTRAIL_BLOB_KEY_FILE: 'blob.key',
    SANDTRAIL_DATA_PLANE_KEY_FILE: 'data-plane.key',
  },
  'worker-1': { SANDTRAIL_NATS_CREDENTIALS_FILE: 'worker-1.json' },
}

/** One line in all, for the configuration is read before anything is begun. */
async function refused(
  name: string,
  changes: Record<string, string | undefined>,
  text: RegExp,
): Promise<void> {
  const { code, lines } = await startByHand(system.system, name, changes)
  expect({ name, code, lines }).toEqual({
    name,
    code: 1,
    lines: [expect.objectContaining({ level: 60, code: 'CONFIG_INVALID', msg: expect.stringMatching(text) })],
  })
}

/** Each secret of each service at once: all faults are told. */
async function refusedFor(fileOf: (name: string) => string, fault: string): Promise<void> {
  for (const [service, secrets] of Object.entries(SECRETS)) {
    const changes = Object.fromEntries(
      Object.entries(secrets).map(([variable, name]) => [variable, fileOf(name)]),
    )
    // In the order of the schema, which is not looked at here.
    const each = Object.keys(secrets).map((variable) => `(?=.*${variable}: ${fault})`)
    await refused(service, changes, new RegExp(`^cannot start: ${each.join('')}`))
  }
}

test('a key that is missing is named, in each service', async () => {
  for (const name of Object.keys(SECRETS)) {
    const text = /^cannot start: SANDTRAIL_NATS_URL: is not set; to do: docs\/services-env.md/
    await refused(name, { SANDTRAIL_NATS_URL: undefined }, text)
  }
}, 120_000)

test('a file that is not there, or holds something else, is named with its key', async () => {
  await refusedFor(() => join(dir, 'absent'), 'cannot read the file .*absent')
  const nonsense = fileWith('nonsense', '{"password": "hunter2"')
  await refusedFor(() => nonsense, 'must hold ')
  const changes = { SANDTRAIL_DATA_PLANE_PUBLIC_KEY_FILE: nonsense }
  await refused('worker-1', changes, /PUBLIC_KEY_FILE: must hold an Ed25519 public key/)
}, 240_000)

test('a secret that others can read is named with its key, and what to do', async () => {
  await refusedFor(open, 'others can read the file .*: chmod 600 it')
}, 120_000)

test('an address that others reach without TLS is refused, unless it is allowed', async () => {
  await refused(
    'gateway',
    { SANDTRAIL_HTTP_HOST: '0.0.0.0' },
    /SANDTRAIL_HTTP_HOST: .*SANDTRAIL_HTTP_TLS_CERT_FILE.*SANDTRAIL_PLAINTEXT_ALLOWED=http/,
  )
  await refused(
    'worker-1',
    { SANDTRAIL_NATS_URL: 'nats://broker.example:4222' },
    /SANDTRAIL_NATS_URL: .*use tls:\/\//,
  )
  await refused(
    'scheduler-1',
    { SANDTRAIL_DATABASE_URL: 'postgres://u:hunter2@db.example/x' },
    /SANDTRAIL_DATABASE_URL: .*use sslmode=verify-full/,
  )
}, 60_000)

test('of two workers with the same id, or the same state directory, the second does not start', async () => {
  const state = join(dir, 'worker')
  mkdirSync(state)
  const twin = await startByHand(system.system, 'worker-1', {
    SANDTRAIL_WORKER_STATE_DIR: state,
    SANDTRAIL_INSTANCE: `${system.system.id}99`,
  })
  const loud = ({ lines }: typeof twin) => lines.filter(({ level = 60 }) => level > 40)
  expect({ code: twin.code, loud: loud(twin) }).toEqual({
    code: 1,
    loud: [
      expect.objectContaining({
        code: 'NAME_TAKEN',
        msg: expect.stringMatching(
          /^cannot start: another worker that runs.*; to do: .* an id and credentials of its own/,
        ),
      }),
    ],
  })
  const second = await startByHand(system.system, 'worker-1', {})
  expect({ code: second.code, loud: loud(second) }).toEqual({
    code: 1,
    loud: [
      expect.objectContaining({
        code: 'UNAVAILABLE',
        msg: expect.stringMatching(
          /another worker holds the state directory.*SANDTRAIL_WORKER_STATE_DIR of its own/,
        ),
      }),
    ],
  })
  // The first goes on, and has its orders to itself.
  const workers = await system.json<{ workerId: string; state: string }[]>('worker', 'ls')
  expect(workers).toEqual([expect.objectContaining({ state: 'active' })])
}, 120_000)
