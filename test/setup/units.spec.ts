/** The units of deploy/systemd: systemd takes them, and each gives its service the keys that it needs and no others. */

import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from '@jest/globals'
import { writeUnits } from '../../scripts/deploy/units.mjs'
import { commandOf, servicesOf } from '../../scripts/system/services.mjs'

const dir = mkdtempSync(join(tmpdir(), 'sandtrail-units-'))
afterAll(() => rmSync(dir, { recursive: true }))

const etc = join(dir, 'etc')
const names = writeUnits(join(dir, 'units'), {
  etc,
  state: join(dir, 'state'),
  user: 'nobody',
  node: process.execPath,
  natsServer: '/bin/true',
})
const unit = (name: string) => readFileSync(join(dir, 'units', name), 'utf8')
// With TLS a service is given the most.
const pair = (name: string) => ({
  cert: join(etc, 'keys', `${name}-tls.pem`),
  key: join(etc, 'keys', `${name}-tls.key`),
})
const services = servicesOf({
  dir: join(dir, 'state'),
  natsUrl: 'nats://x',
  databaseUrl: 'postgres://x',
  httpPort: 1,
  modalPort: 2,
  keys: {
    path: (name) => join(etc, 'keys', name),
    workers: [{ id: 'wk-1', nkeyPublic: 'U', credentialsFile: join(etc, 'keys', 'worker-1.json') }],
    certificates: {
      ca: join(etc, 'keys', 'ca.pem'),
      gateway: pair('gateway'),
      nats: pair('nats'),
      postgres: pair('x'),
    },
  },
  pools: ['pool'],
  schedulers: 1,
}).flat()
mkdirSync(etc)
for (const { app } of services) writeFileSync(join(etc, `${unitOf(app)}.env`), '')

function unitOf(app: string): string {
  return app === 'runtime-worker' ? 'worker' : app
}

function systemd(...args: string[]): string {
  // The colon keeps systemd's own units in view: network-online.target is one of them.
  const env = { ...process.env, SYSTEMD_UNIT_PATH: `${join(dir, 'units')}:` }
  return execFileSync('systemd-analyze', args, { env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

test('systemd finds nothing to complain about', () => {
  const paths = names.map((name) => join(dir, 'units', name))
  expect(systemd('verify', '--man=no', '--recursive-errors=one', ...paths)).toBe('')
})

test('each service has a unit with its command, its environment file, and exactly the keys that it is given', () => {
  for (const { app, env } of services) {
    const text = unit(`sandtrail-${unitOf(app)}.service`)
    expect(text).toContain(`ExecStart=${process.execPath} ${join(process.cwd(), ...commandOf(app))}\n`)
    expect(text).toContain(`EnvironmentFile=${etc}/${unitOf(app)}.env\n`)
    // The worker is root and sees the host as it is.
    if (app === 'runtime-worker') continue
    const given = Object.values(env).filter((value) => value.startsWith(`${etc}/keys/`))
    // A dash: may be absent.
    const bound = [...text.matchAll(/^BindReadOnlyPaths=-?(.*)$/gm)].map(([, path]) => path)
    expect(bound.sort()).toEqual(given.sort())
  }
})

test('what can be confined is confined', () => {
  const confined = ['nats', 'scheduler', 'snapshotter', 'volume-syncer', 'gateway']
  for (const name of confined) {
    // Of 100; a service without any of these settings has 96. Exits with 1 above the threshold.
    systemd('security', '--offline=yes', '--threshold=20', join(dir, 'units', `sandtrail-${name}.service`))
  }
  const worker = unit('sandtrail-worker.service')
  // Each of these means a mount namespace, whose mounts would end with the service.
  expect(worker).not.toMatch(/^(Protect|Private|ReadWritePaths|ReadOnlyPaths|TemporaryFileSystem|Bind)/m)
  expect(worker).toMatch(/^KillMode=process$/m)
})
