import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { inventory } from '../../../scripts/system/inventory.mjs'
import { type GvisorHost, makeGvisorHost, shell } from './testing.js'

let host: GvisorHost
beforeAll(async () => {
  host = await makeGvisorHost()
}, 60_000)
afterAll(() => host?.remove())

const never = new AbortController().signal

test('a sandbox runs programs, and nothing of it is left on the host', async () => {
  const before = await inventory()
  const driver = host.driver()
  const request = host.request({ name: 'Web Server!' })
  const running = await driver.create(request, never)
  expect(await shell(running, request, 'hostname; id -u; cat /etc/hostname')).toMatchObject({
    code: 0,
    stdout: 'web-server\n0\nweb-server',
  })
  expect(await driver.destroy(request.sandboxId, request.dir)).toEqual([])
  expect(await running.exited).toEqual({ kind: 'gone', detail: 'the sandbox process has ended' })
  await driver.stop()
  expect(await inventory()).toEqual(before)
})
