/**
 * Escape probes (docs/security.md): root inside a real sandbox tries to get out, and the same program tries it in a
 * sandbox that keeps nothing in. If it does not get out of that one, it proves nothing about ours.
 */

import { randomBytes } from 'node:crypto'
import { copyFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { makeWorld, WORLD, type World } from '../apps/runtime-worker/network/testing.js'
import { tools } from '../scripts/system/tools.mjs'
import { ALLOWED, judge, type Told, type Traces, table, type Verdict } from './escape/judge.js'
import { controlTargets, type Minihost, makeMinihost, runInControl, targetsOf } from './escape/minihost.js'
import { ROOT, TestSystem, until } from './system.js'

/** Of what is tried on the control sandbox, so much must get through. */
const CONTROL_SHARE_MIN = 4 / 5
const PROBES = join(ROOT, 'test', 'escape', 'probes.py')
const NETWORK = [
  ...[ALLOWED, 'metadata', 'metadata-by-name', 'metadata-by-mapped-address', 'metadata-by-udp'],
  ...['metadata-by-a-forged-source', 'metadata-by-a-frame-of-its-own', 'metadata-by-an-address-of-its-own'],
  ...['host-by-its-public-address', 'host-by-its-private-address', 'host-by-loopback', 'sibling'],
  ...['neighbour-in-a-private-range', 'carrier-grade-nat'],
]
/** Hears whoever connects, and writes down what he says. */
const LISTEN = `
import socket
server = socket.create_server(('', ${WORLD.port}))
open('/heard', 'w').close()
while True:
    peer, _ = server.accept()
    peer.sendall(b'hello')
    open('/heard', 'ab').write(repr(peer.recv(1000)).encode())`

let world: World
let system: TestSystem
let minihost: Minihost
let targets: Record<string, unknown>
let neighbour: { id: string; address: string }
const rounds: Record<string, Verdict[]> = {}

beforeAll(async () => {
  world = await makeWorld()
  // What leaves the sandboxes goes there and nowhere else.
  system = await TestSystem.start({
    environment: {
      SANDTRAIL_UPLINK_NETNS: world.hostNetns,
      SANDTRAIL_DNS_UPSTREAM: `${WORLD.resolver}:53`,
    },
  })
  const pool = poolDir()
  const [image = ''] = readdirSync(join(pool, 'images'))
  minihost = await makeMinihost(world, join(system.system.dir, 'escape'), join(pool, 'images', image))
  targets = await targetsOf(minihost)
  neighbour = await startNeighbour()
}, 240_000)

afterAll(async () => {
  console.info(table(rounds))
  await minihost?.remove()
  await system?.stop()
  await world?.remove()
}, 120_000)

const poolDir = () => join(system.system.dir, 'pools', '1')

async function startNeighbour() {
  const id = await system.ok('create', '--network', 'open', '--timeout', '30m')
  await system.ok(
    'exec',
    id,
    '--',
    'sh',
    '-c',
    `echo '${minihost.secrets.flag}' > /flag-of-the-neighbour; sync`,
  )
  await system.ok('exec', '--detach', id, '--', 'python3', '-c', LISTEN)
  await until(async () => (await system.run(['exec', id, '--', 'test', '-e', '/heard'])).code === 0)
  const address = (
    await system.ok('exec', id, '--', 'sed', '-n', 's/^\\(10[.0-9]*\\) .*/\\1/p', '/etc/hosts')
  ).trim()
  return { id, address }
}

/** Tag and TTL of a round, so that no round is judged by the traces of another. */
function newTraces(): Pick<Traces, 'tag' | 'ttl'> {
  return { tag: `probe${randomBytes(6).toString('hex')}`, ttl: `${65 + Math.floor(Math.random() * 100)}` }
}

async function probeSandbox(network: 'open' | 'none', only?: string[]): Promise<Verdict[]> {
  const { tag, ttl } = newTraces()
  const id = await system.ok(
    ...['create', '--network', network, '--volume', 'shared:/ro:ro', '--timeout', '30m'],
  )
  await system.ok('cp', PROBES, `${id}:/probes.py`)
  const root = join(poolDir(), 'roots', id)
  const own = {
    only,
    tag,
    ttl,
    flags: [...(targets.flags as string[]), join(poolDir(), 'roots', neighbour.id, 'flag-of-the-neighbour')],
    // Sockets of a real system, beside the fake ones.
    sockets: [...(targets.sockets as string[]), ...socketsOfSystem()],
    readOnly: ['/ro/canary', '/etc/hosts', '/etc/resolv.conf', '/.sandtrail/slots/v0/canary'],
    shared: '/etc/debian_version',
    setuid: '/setuid',
    own: '10.200.0.2',
    sibling: neighbour.address,
    gateways: [neighbour.address.replace(/\d+$/, (last) => `${Number(last) - 1}`)],
  }
  const { code, stdout, stderr } = await system.run(['exec', id, '--', 'python3', '/probes.py'], {
    stdin: JSON.stringify({ ...targets, ...own }),
    timeoutMs: 150_000,
  })
  if (code !== 0) throw new Error(`the probes ended with ${code}: ${stderr}`)
  const state = join(system.system.dir, 'workers', '1', 'sandboxes', id, 'runtime', 'etc')
  const [image = ''] = readdirSync(join(poolDir(), 'images'))
  const verdicts = judge(parse(stdout), minihost, {
    tag,
    ttl,
    readOnly: [
      join(state, 'hosts'),
      join(state, 'resolv.conf'),
      join(poolDir(), 'slots', id, 'v0', 'canary'),
    ],
    agent: tools().SANDTRAIL_AGENT ?? '',
    shared: [join(poolDir(), 'images', image), join(poolDir(), 'roots', neighbour.id)].map((dir) =>
      join(dir, 'etc', 'debian_version'),
    ),
    setuid: join(root, 'setuid'),
    heard: await system.ok('exec', neighbour.id, '--', 'cat', '/heard'),
  })
  await system.ok('rm', id)
  return verdicts
}

function socketsOfSystem(): string[] {
  const { dir } = system.system
  const agents = readdirSync(join(dir, 'workers', '1', 'sandboxes')).map((id) =>
    join(dir, 'workers', '1', 'sandboxes', id, 'runtime', 'sockets', 'agent.sock'),
  )
  return [...agents, '/var/run/docker.sock', '/run/containerd/containerd.sock']
}

const parse = (output: string) =>
  output
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Told)

const breaches = (round: readonly Verdict[]) =>
  round.filter(({ breach }) => breach).map(({ probe, told }) => `${probe}: ${told}`)

test('out of a sandbox with a network none gets but to the internet', async () => {
  // What `write-past-read-only` is to change.
  await system.ok('run', '--volume', 'shared:/rw', '--', 'sh', '-c', 'echo canary > /rw/canary')
  rounds.sandbox = await probeSandbox('open')
  expect(breaches(rounds.sandbox)).toEqual([expect.stringMatching(`^${ALLOWED}: `)])
}, 240_000)

test('out of a sandbox without a network none gets anywhere', async () => {
  rounds['sandbox, no network'] = await probeSandbox('none', NETWORK)
  expect(breaches(rounds['sandbox, no network'])).toEqual([])
}, 120_000)

// Last: what it changes, such as a process that is dead, would be held against the others.
test('on a sandbox that keeps nothing in, at least four of five probes get through', async () => {
  const { tag, ttl } = newTraces()
  const { dir } = minihost
  copyFileSync(PROBES, join(dir, 'probes.py'))
  const stdin = JSON.stringify({ ...targets, ...controlTargets(minihost), tag, ttl })
  const told = parse(await runInControl(minihost, ['/usr/bin/python3', `/host${dir}/probes.py`], stdin))
  expect(told.map(({ probe }) => probe)).toEqual(rounds.sandbox?.map(({ probe }) => probe))
  rounds.control = judge(told, minihost, {
    ...{ tag, ttl, readOnly: [join(dir, 'ro', 'canary')], agent: join(dir, 'agent') },
    ...{ shared: [join(dir, 'shared')], setuid: join(dir, 'setuid'), heard: '' },
  })
  const through = breaches(rounds.control).length
  if (through < CONTROL_SHARE_MIN * told.length) {
    const contained = rounds.control.filter(({ breach }) => !breach)
    throw new Error(
      `only ${through} of ${told.length} got through, so the probes are void:\n${contained.map(({ probe, told }) => `${probe}: ${told}`).join('\n')}`,
    )
  }
}, 120_000)

test('the probes have left the system whole: the neighbour answers, and no service was restarted', async () => {
  expect(await system.ok('exec', neighbour.id, '--', 'echo', 'here')).toBe('here')
  expect(await system.run(['verify'])).toMatchObject({ code: 0 })
}, 60_000)
