/** The package without the clone: packed, installed by npm, started from its systemd units, used, stopped. */

import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { Installation } from './setup/installation.mjs'
import { ROOT } from './system.js'

let installation: Installation
beforeAll(async () => {
  installation = await Installation.make()
  await installation.start()
}, 300_000)
afterAll(() => installation?.remove(), 60_000)

const sandtrail = (...args: string[]) => installation.run('sandtrail', ...args)

test('runs programs in sandboxes, keeps the trail, and holds nothing of the clone open', async () => {
  expect(await sandtrail('run', '--', 'python3', '-c', 'print(6 * 7)')).toBe('42\n')
  const sandbox = (await sandtrail('create', '--name', 'kept')).trim()
  expect(await sandtrail('exec', 'kept', '--', 'id', '-u')).toBe('0\n')
  await sandtrail('rm', 'kept')
  await sandtrail('wait', sandbox).catch(({ code }) => expect(code).toBe(137))
  expect(JSON.parse(await sandtrail('verify', '--output', 'json'))).toMatchObject({ ok: true })

  const services = installation.processes().filter(({ name }) => !['postgres', 'nats'].includes(name))
  expect(services).toHaveLength(5)
  for (const { pid } of services) {
    expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).toContain(installation.package)
    expect(pathsOf(pid).filter((path) => path.startsWith(ROOT))).toEqual([])
  }
}, 120_000)

test('an upgrade installs again: what was set by hand stays, the services start with it, and nothing is lost', async () => {
  const before = readFileSync(join(installation.etc, 'worker.env'), 'utf8')
  await installation.stop()
  await installation.install()
  expect(readFileSync(join(installation.etc, 'worker.env'), 'utf8')).toBe(before)
  await installation.start()
  expect((await sandtrail('ps', '--all', '--quiet')).trim().split('\n')).toHaveLength(2)
  expect(await sandtrail('run', '--', 'echo', 'again')).toBe('again\n')
}, 120_000)

/** What a process runs, has open and has mapped. */
function pathsOf(pid: number): string[] {
  const links = ['exe', 'cwd', ...readdirSync(`/proc/${pid}/fd`).map((fd) => `fd/${fd}`)]
  const open = links.map((link) => readlinkSync(`/proc/${pid}/${link}`))
  return [
    ...open,
    ...readFileSync(`/proc/${pid}/maps`, 'utf8')
      .split('\n')
      .map((line) => line.slice(73)),
  ]
}
