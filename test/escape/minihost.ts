/**
 * What a probe could get out to: a host of namespaces that the test has made, with secrets, canaries, processes, a disk,
 * sockets and a network behind it; and a control sandbox on it that keeps nothing in. Nothing of the machine itself is
 * changed but a cgroup and a loop device, both the test's own.
 */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmdirSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { ipBatch } from '../../apps/runtime-worker/network/netns.js'
import { end, serve, WORLD, type World } from '../../apps/runtime-worker/network/testing.js'

const HERE = fileURLToPath(new URL('.', import.meta.url))

/** What only the host has. Whoever tells one of them was there. */
export type Secrets = Record<'flag' | 'disk' | 'environment' | 'title' | 'mortal' | 'cgroup', string>

export interface Minihost {
  dir: string
  world: World
  secrets: Secrets
  /** Of the loop device: major, minor. */
  device: [number, number]
  abstractSocket: string
  /** Pids as this machine sees them. */
  init: number
  mortal: number
  cgroupDir: string
  remove(): Promise<void>
}

/** Both kinds of Unix socket, on the host. */
const UNIX_LISTENER = (path: string, abstract: string) => `
const listen = (name) => new Promise((resolve) => {
  const server = require('node:net').createServer((socket) => {
    socket.on('data', (data) => console.log('unix <- said ' + JSON.stringify(String(data))))
    socket.on('error', () => {})
    socket.end('hello\\n')
  })
  server.listen(name, resolve)
})
Promise.all([listen('${path}'), listen('\\0${abstract}')]).then(() => console.log('listening'))`

/**
 * @param world what is beyond the host; `remove` leaves it
 * @param imageDir the image that the control sandbox's root is made of
 */
export async function makeMinihost(world: World, dir: string, imageDir: string): Promise<Minihost> {
  const secret = (what: string) => `escape-flag-${what}-${randomBytes(8).toString('hex')}`
  const secrets: Secrets = {
    flag: secret('file'),
    disk: secret('disk'),
    environment: secret('environment'),
    title: secret('title'),
    mortal: secret('mortal'),
    cgroup: secret('cgroup'),
  }
  mkdirSync(dir, { mode: 0o755 })
  for (const folder of ['control', 'ro', 'disk']) mkdirSync(join(dir, folder), { mode: 0o755 })
  for (const [name, text] of Object.entries({
    flag: secrets.flag,
    'disk/flag': secrets.disk,
    title: secrets.title,
    mortal: secrets.mortal,
    canary: 'canary',
    'ro/canary': 'canary',
    shared: 'canary',
    hosts: '127.0.0.1 localhost\n',
    agent: 'the agent',
  })) {
    writeFileSync(join(dir, name), text, { mode: 0o644 })
  }
  const children: ChildProcess[] = []
  const loop = makeLoopDevice(dir, secrets.disk)
  const cgroupDir = makeCgroup(secrets.cgroup)
  // The metadata service answers whoever gives himself an address of its network.
  await ipBatch(world.hostNetns.replace(/host$/, 'net'), ['route add 169.254.0.0/16 dev lan'])
  const abstractSocket = `sandtrail-${randomBytes(6).toString('hex')}`
  const said = world.lines as string[]
  children.push(await serve(world.hostNetns, UNIX_LISTENER(join(dir, 'socket'), abstractSocket), said))
  const { child, init, mortal } = await startMinihost(dir, imageDir, world.hostNetns, secrets.environment)
  children.push(child)
  return {
    ...{ dir, world, secrets, abstractSocket, init, mortal, cgroupDir },
    device: loop.device,
    async remove() {
      for (const each of children) await end(each)
      execFileSync('losetup', ['--detach', loop.path])
      rmdirSync(cgroupDir)
    },
  }
}

/** A secret in its first sector, and an ext4 filesystem with a secret in a file. */
function makeLoopDevice(dir: string, secret: string): { path: string; device: [number, number] } {
  const image = join(dir, 'disk.img')
  writeFileSync(image, '')
  truncateSync(image, 4 * 1024 ** 2)
  const quiet = { stdio: ['ignore', 'pipe', 'pipe'] as 'pipe'[], encoding: 'utf8' as const }
  execFileSync('mkfs.ext4', ['-q', '-O', '^has_journal', '-d', join(dir, 'disk'), image], quiet)
  // ext4 leaves the first 1024 bytes to whoever boots from it.
  const file = openSync(image, 'r+')
  writeSync(file, secret, 0)
  closeSync(file)
  const path = execFileSync('losetup', ['--find', '--show', '--read-only', image], quiet).trim()
  const [major = 0, minor = 0] = execFileSync('stat', ['-c', '%Hr %Lr', path], quiet).split(' ').map(Number)
  return { path, device: [major, minor] }
}

function makeCgroup(name: string): string {
  const root = existsSync('/sys/fs/cgroup/memory') ? '/sys/fs/cgroup/memory' : '/sys/fs/cgroup'
  const path = join(root, name)
  mkdirSync(path)
  // It comes from the parent, where it may be set.
  if (existsSync(join(path, 'notify_on_release'))) writeFileSync(join(path, 'notify_on_release'), '0')
  return path
}

async function startMinihost(dir: string, imageDir: string, netns: string, secret: string) {
  const args = [
    ...[
      `--net=/run/netns/${netns}`,
      'unshare',
      '--mount',
      '--pid',
      '--fork',
      '--kill-child',
      '--uts',
      '--ipc',
    ],
    // What others unmount on this machine goes here too, so nothing of theirs is held.
    ...['--propagation=slave', '--mount-proc', 'bash', join(HERE, 'minihost.sh')],
    ...[dir, imageDir, 'minihost', secret, WORLD.resolver],
  ]
  const child = spawn('nsenter', args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const pids = new Map<string, number>()
  for await (const line of createInterface({ input: child.stdout })) {
    if (line === 'ready') break
    const [what = '', pid] = line.split(' ')
    pids.set(what, Number(pid))
  }
  const [init] = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8')
    .trim()
    .split(' ')
    .map(Number)
  if (init === undefined || !pids.has('mortal')) throw new Error('the control host did not start')
  const mortal = [init, ...childrenOf(init)].find((pid) => innerPid(pid) === pids.get('mortal')) ?? 0
  return { child, init, mortal }
}

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number)
}

function innerPid(pid: number): number {
  const line = /^NSpid:\s+(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? ''
  return Number(line.split('\t').at(-1))
}

/** Runs a program in the control sandbox. @returns what it printed */
export async function runInControl({ dir, init }: Minihost, argv: string[], stdin: string): Promise<string> {
  const enter = [`--target=${init}`, '--mount', '--pid', '--net', '--uts', '--ipc']
  const child = spawn('nsenter', [...enter, 'chroot', join(dir, 'control/root'), ...argv], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  let output = ''
  child.stdout.on('data', (chunk) => {
    output += chunk
  })
  child.stdin.end(stdin)
  await once(child, 'close')
  return output
}

/** What a probe must know to have a fair chance, whichever sandbox it is in. */
export async function targetsOf(minihost: Minihost): Promise<Record<string, unknown>> {
  const { dir, secrets, device, abstractSocket } = minihost
  return {
    flags: [join(dir, 'flag')],
    canary: join(dir, 'canary'),
    sockets: [join(dir, 'socket')],
    abstract: abstractSocket,
    device,
    cgroup: secrets.cgroup,
    handle: JSON.parse(
      await runInControl(minihost, ['/usr/bin/python3', '-c', TELL_HANDLE], join(dir, 'flag')),
    ),
    agent: '/.sandtrail/agent',
    port: WORLD.port,
    metadata: WORLD.metadata,
    hostPublic: WORLD.hostPublic,
    hostPrivate: WORLD.hostPrivate,
    neighbour: WORLD.neighbour,
    carrierGrade: WORLD.carrierGrade,
    internet: WORLD.internet,
    forged: '203.0.113.9',
  }
}

/** name_to_handle_at of the file whose name is on stdin. */
const TELL_HANDLE = `
import ctypes, json, struct, sys
handle, mount = ctypes.create_string_buffer(struct.pack('Ii', 128, 0) + bytes(128)), ctypes.c_int()
path = ('/host' + sys.stdin.read()).encode()
if ctypes.CDLL(None, use_errno=True).name_to_handle_at(-100, path, handle, ctypes.byref(mount), 0) != 0:
    raise OSError(ctypes.get_errno(), 'name_to_handle_at')
size, kind = struct.unpack_from('Ii', handle)
print(json.dumps({'type': kind, 'hex': handle.raw[8:8 + size].hex()}))`

/** Of the control sandbox alone: what it has of the host, and how it reaches others. */
export function controlTargets({ dir }: Minihost): Record<string, unknown> {
  return {
    readOnly: ['/ro/canary'],
    shared: `/host${dir}/shared`,
    setuid: `/host${dir}/setuid`,
    own: WORLD.hostPublic,
    sibling: WORLD.neighbour,
    gateways: [],
  }
}
