import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { TestSystem, until } from './system.js'

/** Far below the outage, so that a mistake in counting it would show. */
const GRACE_MS = 3_000
const OUTAGE_MS = 15_000

let system: TestSystem
beforeAll(async () => {
  system = await TestSystem.start({ environment: { SANDTRAIL_LEASE_GRACE_MS: String(GRACE_MS) } })
}, 180_000)
afterAll(() => system?.stop(), 60_000)

test('an outage of the whole control plane kills no sandbox, and the worker keeps their time', async () => {
  const stays = await system.ok('create', '--timeout', '1h')
  const ends = await system.ok('create', '--timeout', '5s')
  const exec = await system.ok('exec', '--detach', stays, '--', 'sh', '-c', 'sleep 8; echo survived')
  const others = system.system
    .services()
    .map(({ name }) => name)
    .filter((name) => !name.startsWith('worker'))
  await Promise.all(others.map((name) => system.system.kill(name, 'SIGKILL')))
  const end = performance.now() + OUTAGE_MS
  await until(() => performance.now() > end)
  for (const name of [
    'postgres',
    'nats',
    ...others.filter((name) => name !== 'postgres' && name !== 'nats'),
  ]) {
    await system.system.start(name)
  }
  expect((await system.run(['wait', ends])).code).toBe(124)
  expect(await system.ok('attach', exec)).toBe('survived')
  expect(await system.ok('exec', stays, '--', 'echo', 'here')).toBe('here')
  await system.ok('rm', stays)
  expect(await system.run(['verify'])).toMatchObject({ code: 0 })
}, 240_000)

test('a broker whose store was wiped is filled again, and commands go on', async () => {
  const { rm } = await import('node:fs/promises')
  const { join } = await import('node:path')
  await system.system.kill('nats', 'SIGKILL')
  await rm(join(system.system.dir, 'nats'), { recursive: true, force: true })
  await system.system.start('nats')
  const ran = await until(async () => {
    const result = await system.run(['run', '--', 'echo', 'again'])
    return result.code === 0 && result
  })
  expect(ran.stdout).toBe('again\n')
}, 120_000)
