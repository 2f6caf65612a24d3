import { expect, test } from '@jest/globals'
import { inventory } from '../scripts/system/inventory.mjs'
import { TestSystem, until } from './system.js'

test('after a system with everything in it has stopped, the host has nothing of it', async () => {
  const system = await TestSystem.start({ workers: 2 })
  const { id } = system.system
  try {
    const open = await system.ok('create', '--network', 'open', '--volume', 'v:/v', '--timeout', '1h')
    await system.ok('exec', '--detach', open, '--', 'sleep', '1000')
    const ended = await system.ok('create')
    await system.ok('exec', ended, '--', 'true') // An accepted create is not a running sandbox yet.
    await system.ok('snapshot', ended)
    await system.ok('rm', ended)
    await until(async () => (await system.types(ended)).includes('SandboxCleanedUp'))
    expect((await inventory({ id })).length).toBeGreaterThan(0)
    // Left with a live sandbox, and with a worker that had no time to clean up.
    await system.system.kill('worker-1', 'SIGKILL')
    await system.system.kill('worker-2', 'SIGKILL')
  } finally {
    await system.stop()
  }
  expect(await inventory({ id })).toEqual([])
}, 240_000)
