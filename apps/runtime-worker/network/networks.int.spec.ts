/** The rules of an open network, attacked from a plain netns: its kernel forges what gVisor's stack would not. */

import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { createLog } from '#libs/service'
import { processesOf } from '../cgroup/index.js'
import { until } from '../host/wait.js'
import { routingNetns, type SandboxLink } from './addressing.js'
import { ipBatch, listNetns, runIn } from './netns.js'
import { SandboxNetworks } from './networks.js'
import {
  ANSWER,
  connect,
  end,
  makeWorld,
  resolve,
  resolveOverTcp,
  serve,
  WORLD,
  type World,
} from './testing.js'

const instance = randomBytes(3).toString('hex')
let world: World
let dir: string
let networks: SandboxNetworks
let link: SandboxLink
let sibling: SandboxLink

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sandtrail-network-'))
  world = await makeWorld()
  networks = makeNetworks()
  link = await networks.reserve()
  await networks.make(link)
  sibling = await networks.reserve()
  await networks.make(sibling)
})

afterAll(async () => {
  await networks?.remove(link.index)
  await networks?.remove(sibling.index)
  await networks?.stop()
  expect((await listNetns()).filter((name) => name.includes(instance))).toEqual([])
  expect(processesOf(`sandtrail-${instance}/network`)).toEqual([])
  await world?.remove()
  await rm(dir, { recursive: true })
})

function makeNetworks(): SandboxNetworks {
  return new SandboxNetworks({
    instance,
    dir,
    dnsUpstream: `${WORLD.resolver}:53`,
    hostNetns: world.hostNetns,
    log: createLog('test', 'error'),
  })
}

test('the internet is reached from the address of the host', async () => {
  expect(await connect(link.netns, WORLD.internet)).toBe('hello')
  const told = () => world.accepted(WORLD.internet).includes(`${WORLD.internet} <- ${WORLD.hostPublic}`)
  expect(await until(told, { timeoutMs: 5_000 })).toBe(true)
})

test('the gateway answers DNS, over UDP and TCP', async () => {
  expect(await resolve(link.netns, link.gateway)).toBe(ANSWER)
  expect(await resolveOverTcp(link.netns, link.gateway)).toBe(ANSWER)
})

const refused = {
  'a public address of the host': WORLD.hostPublic,
  'a private address of the host': WORLD.hostPrivate,
  'a neighbour in a private range': WORLD.neighbour,
  'an address of carrier-grade NAT': WORLD.carrierGrade,
  'the metadata service': WORLD.metadata,
  'the host behind slirp4netns': '10.201.0.2',
  'the routing netns': '10.201.0.100',
}
for (const [what, address] of Object.entries(refused)) {
  test(`${what} is refused`, async () => {
    expect(await connect(link.netns, address)).toMatch(/^(EHOSTUNREACH|ECONNREFUSED|TIMEOUT|EACCES)$/)
    expect(world.accepted(address)).toEqual([])
  })
}

test('another sandbox is refused, and so is its gateway address', async () => {
  const lines: string[] = []
  const script = `require('node:net').createServer((s) => { console.log('accepted'); s.end() }).listen(8080, () => console.log('up'))`
  const child = await serve(sibling.netns, script, lines)
  try {
    expect(await connect(link.netns, sibling.address)).not.toBe('hello')
    expect(await resolve(link.netns, sibling.gateway)).not.toBe(ANSWER)
    expect(lines).toEqual(['up'])
  } finally {
    await end(child)
  }
})

test('nothing on the gateway answers but DNS', async () => {
  const child = await serve(
    routingNetns(instance),
    `require('node:net').createServer((s) => s.end('hello')).listen(8080, () => console.log('up'))`,
  )
  try {
    expect(await connect(link.netns, link.gateway)).not.toBe('hello')
  } finally {
    await end(child)
  }
})

test('an address or a route that a guest adds changes nothing', async () => {
  await ipBatch(link.netns, [
    'address add 169.254.1.1/16 dev eth0',
    'address add 10.50.0.9/16 dev eth0',
    `route add ${WORLD.hostPublic}/32 via ${link.gateway}`,
  ])
  const addresses = [WORLD.metadata, WORLD.neighbour, WORLD.hostPublic]
  for (const address of addresses) {
    expect(await connect(link.netns, address)).not.toBe('hello')
    await ipBatch(link.netns, [`neighbour replace ${address} lladdr ${await macOf(link)} dev eth0`])
    expect(await connect(link.netns, address)).not.toBe('hello')
  }
  expect(world.accepted(...addresses)).toEqual([])
  await ipBatch(link.netns, [
    'address delete 169.254.1.1/16 dev eth0',
    'address delete 10.50.0.9/16 dev eth0',
  ])
})

test('a packet with a forged source is dropped', async () => {
  // The sibling's own address: the routing netns would answer to the sibling.
  await ipBatch(link.netns, [`address add ${sibling.address}/32 dev eth0`])
  const before = await dropped()
  const before2 = world.accepted(WORLD.internet).length
  await runIn(link.netns, process.execPath, [
    '-e',
    `const s = require('node:net').connect({ port: ${WORLD.port}, host: '${WORLD.internet}', localAddress: '${sibling.address}' })
    s.on('error', () => {}); s.setTimeout(1000, () => process.exit())`,
  ])
  await ipBatch(link.netns, [`address delete ${sibling.address}/32 dev eth0`])
  expect(await dropped()).toBeGreaterThan(before)
  expect(world.accepted(WORLD.internet).slice(before2)).toEqual([])
})

test('a new address of the host is refused too', async () => {
  await ipBatch(world.hostNetns, ['address add 45.33.1.77/32 dev wan'])
  const isRefused = async () => (await connect(link.netns, '45.33.1.77')) !== 'hello'
  expect(await until(isRefused, { timeoutMs: 10_000, everyMs: 200 })).toBe(true)
})

test('there is no IPv6 in a network', async () => {
  expect(await runIn(link.netns, 'ip', ['-6', 'address'])).toBe('')
  expect(await runIn(routingNetns(instance), 'ip', ['-6', 'address'])).toBe('')
})

test('a daemon that dies is started again', async () => {
  for (const name of ['slirp4netns', 'dnsmasq']) {
    const pid = await pidOf(name)
    process.kill(pid, 'SIGKILL')
    const works = async () =>
      (await pidOf(name).catch(() => pid)) !== pid &&
      (await connect(link.netns, WORLD.internet)) === 'hello' &&
      (await resolve(link.netns, link.gateway, `${name}.test`)) === ANSWER
    expect(await until(works, { timeoutMs: 15_000, everyMs: 100 })).toBe(true)
  }
})

test('a new life of the worker takes over networks and daemons, and removes what nobody uses', async () => {
  const pids = [await pidOf('slirp4netns'), await pidOf('dnsmasq')]
  const second = makeNetworks()
  await second.adopt(link.index)
  await second.adopt(sibling.index)
  await second.removeUnused()
  expect([await pidOf('slirp4netns'), await pidOf('dnsmasq')]).toEqual(pids)
  expect((await listNetns()).filter((name) => name.includes(instance)).sort()).toEqual(
    [routingNetns(instance), link.netns, sibling.netns].sort(),
  )
  expect(await connect(link.netns, WORLD.internet)).toBe('hello')
  await second.stop()
  expect(await connect(link.netns, WORLD.internet)).toBe('hello')
})

test('a resolver on loopback is refused with a way out', async () => {
  const log = createLog('test', 'fatal')
  const wrong = new SandboxNetworks({ instance: `${instance}ff`, dir, dnsUpstream: '127.0.0.53:53', log })
  await expect(wrong.make(await wrong.reserve())).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    hint: expect.stringContaining('SANDTRAIL_DNS_UPSTREAM'),
  })
  await wrong.stop()
})

async function macOf({ netns, gateway }: SandboxLink): Promise<string> {
  const table = await runIn(netns, 'ip', ['neighbour', 'show', gateway])
  return /lladdr (\S+)/.exec(table)?.[1] ?? 'ff:ff:ff:ff:ff:ff'
}

/** Packets that the rule against forged sources has dropped. */
async function dropped(): Promise<number> {
  const rules = await runIn(routingNetns(instance), 'nft', [
    'list',
    'chain',
    'inet',
    'sandtrail',
    'prerouting',
  ])
  return Number(/fib saddr.*packets (\d+)/.exec(rules)?.[1])
}

async function pidOf(name: string): Promise<number> {
  for (const pid of processesOf(`sandtrail-${instance}/network`)) {
    const said = await runIn(routingNetns(instance), 'cat', [`/proc/${pid}/comm`]).catch(() => '')
    if (said.trim() === name) return pid
  }
  throw new Error(`${name} does not run`)
}
