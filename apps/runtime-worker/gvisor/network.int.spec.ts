/** An open network as programs in a sandbox see it. The rules themselves are attacked in ../network. */

import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { until } from '../host/wait.js'
import { listNetns, netnsExists } from '../network/netns.js'
import { SPARES } from '../network/networks.js'
import { ANSWER, makeWorld, WORLD, type World } from '../network/testing.js'
import type { RunningSandbox } from '../runtime.js'
import type { GvisorDriver } from './driver.js'
import { type GvisorHost, makeGvisorHost, shell, type TestRequest } from './testing.js'

let world: World
let host: GvisorHost
let driver: GvisorDriver
let request: TestRequest
let running: RunningSandbox
/** Makes the step "run" of a create fail. */
let failing = false
const beforeStep = (step: string) => {
  if (failing && step === 'run') throw new Error('injected')
}
const never = new AbortController().signal

beforeAll(async () => {
  world = await makeWorld()
  host = await makeGvisorHost({ dnsUpstream: `${WORLD.resolver}:53`, hostNetns: world.hostNetns })
  driver = host.driver({ beforeStep })
  request = host.request({ network: 'open' })
  running = await driver.create(request, never)
}, 120_000)

afterAll(async () => {
  expect(await driver?.destroy(request.sandboxId, request.dir)).toEqual([])
  await driver?.stop()
  expect(await host?.inventory()).toEqual([])
  await host?.remove()
  await world?.remove()
}, 60_000)

const python = async (body: string) =>
  (await shell(running, request, `python3 - <<'END'\nimport socket\n${body}\nEND`)).stdout

/** What a program inside gets when it connects. */
const connect = (address: string) =>
  python(
    `try:
    s = socket.create_connection(('${address}', ${WORLD.port}), timeout=2); print(s.recv(100).decode().strip())
except OSError as e: print(type(e).__name__, e)`,
  )

test('the internet is reached, by name too', async () => {
  expect(await connect(WORLD.internet)).toBe('hello')
  expect(await python("print(socket.gethostbyname('example.test'))")).toBe(ANSWER)
  expect(await connect('example.test')).toBe('hello')
})

for (const address of [
  WORLD.hostPublic,
  WORLD.hostPrivate,
  WORLD.neighbour,
  WORLD.metadata,
  WORLD.carrierGrade,
]) {
  test(`${address} is refused`, async () => {
    expect(await connect(address)).not.toBe('hello')
    expect(world.accepted(address)).toEqual([])
  })
}

test('the guest has one address, no IPv6, and cannot give itself more', async () => {
  expect((await shell(running, request, 'cat /etc/resolv.conf')).stdout).toMatch(
    /^nameserver 10\.200\.\d+\.\d+\n/,
  )
  const bind = `try:
    s = socket.socket(); s.bind(('169.254.169.1', 0)); print('bound')
except OSError as e: print('refused')`
  expect(await python(bind)).toBe('refused')
  const v6 = `try:
    s = socket.create_connection(('fd00:ec2::254', 80), timeout=2); print('connected')
except OSError as e: print('refused')`
  expect(await python(v6)).toBe('refused')
})

test('a failed create takes its network along', async () => {
  const failed = host.request({ network: 'open' })
  failing = true
  await expect(driver.create(failed, never)).rejects.toMatchObject({ step: 'run' })
  failing = false
  const left = async () =>
    (await listNetns()).filter((name) => name.startsWith(`st-${host.instance}-`)).length
  expect(await until(async () => (await left()) === 1 + SPARES, { timeoutMs: 5_000 })).toBe(true)
})

test('a sandbox that is adopted keeps its network', async () => {
  await driver.stop()
  driver = host.driver()
  running = (await driver.adopt(request))!
  await driver.sweep(new Set([request.sandboxId]))
  expect(await netnsExists(`st-${host.instance}`)).toBe(true)
  expect(await connect('example.test')).toBe('hello')
})
