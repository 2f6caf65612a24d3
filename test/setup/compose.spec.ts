/** docker-compose.yml, the production shape, says what the tests start: the same commands with the same keys. */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from '@jest/globals'
import { commandOf, type Service, servicesOf } from '../../scripts/system/services.mjs'

const dir = mkdtempSync(join(tmpdir(), 'sandtrail-compose-'))
// Production has TLS.
const pair = { cert: 'c', key: 'k' }
const certificates = { ca: 'ca', gateway: pair, nats: pair, postgres: pair }
const worker = { id: 'wk-1', nkeyPublic: 'U', credentialsFile: 'c' }
const started = servicesOf({
  dir,
  natsUrl: 'nats://x',
  databaseUrl: 'postgres://x',
  httpPort: 1,
  modalPort: 2,
  keys: { path: (name) => name, workers: [worker], certificates },
  pools: ['pool'],
  schedulers: 1,
}).flat()
afterAll(() => rmSync(dir, { recursive: true }))

const compose = readFileSync(new URL('../../docker-compose.yml', import.meta.url), 'utf8')
const blocks = compose.split(/\n(?=x-[a-z]+: | {2}[a-z-]+:\n)/)

test('every service of the tests is one of docker-compose.yml, by the same command', () => {
  const commands = [...compose.matchAll(/command: (node .*)/g)].map(([, command]) => command).sort()
  expect(commands).toEqual(started.map(({ app }) => ['node', ...commandOf(app)].join(' ')).sort())
})

test.each(started)('$name gets the same keys there', ({ app, env }) => {
  const block = blocks.find((text) => text.includes(`dist/apps/${app}/main.js`)) ?? ''
  expect([...new Set([...keysOf(block), ...platformKeys(block)])].sort()).toEqual(expectedKeys(env))
})

// Compose watches the processes itself, and its containers have a loopback each: the default port will do.
const LOCAL = ['SANDTRAIL_READY_FILE', 'SANDTRAIL_METRICS_PORT']
const expectedKeys = (env: Service['env']) =>
  Object.keys(env)
    .filter((key) => !LOCAL.includes(key))
    .sort()

const keysOf = (block: string) => [...block.matchAll(/^ +(SANDTRAIL_[A-Z_]+):/gm)].map(([, key]) => key)

function platformKeys(block: string) {
  if (!block.includes('<<: *platform')) return []
  return keysOf(blocks.find((text) => text.startsWith('x-platform')) ?? '')
}
