import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, test } from '@jest/globals'
import { until } from '../host/wait.js'
import {
  cgroupExists,
  createCgroup,
  endCgroup,
  isUnified,
  joinFile,
  killCgroup,
  missingControllers,
  oomKillsOf,
  processesOf,
  setCpuLimits,
} from './index.js'
import { parseHierarchies } from './v1.js'
import { unifiedRoot } from './v2.js'

const name = `sandtrail-${randomBytes(4).toString('hex')}/test`
const limits = { memoryBytes: 64 * 1024 ** 2, cpuMillis: 250, cpuLimitMillis: 500, pidsMax: 50 }
const mounts = readFileSync('/proc/mounts', 'utf8')
/** Where each controller is; on a host with v2 alone there is one place for all of them. */
const roots = isUnified ? new Map([['all', unifiedRoot(mounts)!]]) : parseHierarchies(mounts)
const rootOf = (controller: string) => roots.get(isUnified ? 'all' : controller)!
const children: ChildProcess[] = []

afterEach(async () => {
  expect(await endCgroup(name, 5_000)).toBe(true)
  for (const child of children.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  }
  expect(cgroupExists(name)).toBe(false)
})

/** A shell that joins these controllers' cgroups and then runs `script`. */
function start(script: string, ...controllers: string[]): ChildProcess {
  const files = controllers.map((controller) => join(rootOf(controller), name, 'cgroup.procs'))
  const joining = files.map((file) => `echo $$ > ${file}`).join(' && ')
  const child = spawn('sh', ['-c', `${joining} && ${script}`], { stdio: ['ignore', 'pipe', 'ignore'] })
  children.push(child)
  return child
}

const value = (controller: string, file: string) =>
  readFileSync(join(rootOf(controller), name, file), 'utf8').trim()

/** Each limit by its file: as the kernel has it. */
const inForce = isUnified
  ? () => ({
      memory: value('memory', 'memory.max'),
      share: value('cpu', 'cpu.weight'),
      quota: value('cpu', 'cpu.max'),
      pids: value('pids', 'pids.max'),
    })
  : () => ({
      memory: value('memory', 'memory.limit_in_bytes'),
      share: value('cpu', 'cpu.shares'),
      quota: `${value('cpu', 'cpu.cfs_quota_us')} ${value('cpu', 'cpu.cfs_period_us')}`,
      pids: value('pids', 'pids.max'),
    })
const [QUARTER, UNLIMITED] = isUnified ? ['25', 'max 100000'] : ['256', '-1 100000']

test('this host has what is needed', () => {
  expect(missingControllers()).toEqual([])
})

test('limits are in force', () => {
  createCgroup(name, limits)
  const memory = String(limits.memoryBytes)
  expect(inForce()).toEqual({ memory, share: QUARTER, quota: '50000 100000', pids: '50' })
})

test('without a limit of CPU there is no quota, and one can be given later', () => {
  createCgroup(name, { ...limits, cpuLimitMillis: null })
  expect(inForce().quota).toBe(UNLIMITED)
  setCpuLimits(name, limits)
  expect(inForce().quota).toBe('50000 100000')
})

test('there is no swap to escape to', () => {
  createCgroup(name, limits)
  // A kernel without swap has nothing to limit, and no such file.
  const file = join(rootOf('memory'), name, isUnified ? 'memory.swap.max' : 'memory.swappiness')
  if (existsSync(file)) expect(readFileSync(file, 'utf8').trim()).toBe('0')
})

test('a process can join every hierarchy, cpuset included', async () => {
  createCgroup(name, limits)
  const child = start('echo in; exec sleep 60', ...roots.keys())
  expect(String((await once(child.stdout!, 'data'))[0])).toBe('in\n')
  expect(processesOf(name)).toEqual([child.pid])
})

test('a fork bomb is killed to the last process', async () => {
  createCgroup(name, limits)
  start('while :; do sleep 60 & done', 'freezer', 'pids')
  expect(await until(async () => processesOf(name).length > 30, { timeoutMs: 10_000 })).toBe(true)
  expect(await killCgroup(name, 5_000)).toBe(true)
  expect(processesOf(name)).toEqual([])
})

test('a group that was left frozen is killed too', async () => {
  createCgroup(name, limits)
  const child = start('echo in; sleep 60', 'freezer')
  await once(child.stdout!, 'data')
  await writeFile(
    join(rootOf('freezer'), name, isUnified ? 'cgroup.freeze' : 'freezer.state'),
    isUnified ? '1' : 'FROZEN',
  )
  expect(await killCgroup(name, 5_000)).toBe(true)
})

test('a kill for want of memory is counted', async () => {
  createCgroup(name, limits)
  expect(oomKillsOf(name)).toBe(0)
  await once(start('exec tail /dev/zero', 'freezer', 'memory'), 'exit')
  expect(oomKillsOf(name)).toBe(1)
})

test('removal takes the last sandbox’s parent along, and is safe to repeat', async () => {
  createCgroup(name, limits)
  await endCgroup(name, 5_000)
  await endCgroup(name, 5_000)
  expect(existsSync(join(rootOf('memory'), name, '..'))).toBe(false)
})

test('nothing is known of a cgroup that is not there', async () => {
  expect(processesOf(name)).toEqual([])
  expect(oomKillsOf(name)).toBe(0)
  expect(await killCgroup(name, 100)).toBe(true)
})

test('what can join is nothing once the directory is gone', async () => {
  createCgroup(name, limits)
  await endCgroup(name, 5_000)
  const child = spawn('sh', ['-c', 'echo $$ >"$0" && exec "$@"', joinFile(name), 'echo', 'started'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const [code] = await once(child, 'exit')
  expect(code).not.toBe(0)
})

test('controllers are found alone, in pairs and by name', () => {
  const found = parseHierarchies(`
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,xattr,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0`)
  expect([...found]).toEqual([
    ['memory', '/sys/fs/cgroup/memory'],
    ['cpu', '/sys/fs/cgroup/cpu,cpuacct'],
    ['cpuacct', '/sys/fs/cgroup/cpu,cpuacct'],
    ['systemd', '/sys/fs/cgroup/systemd'],
  ])
})

test('v2 counts when it has the memory', () => {
  const v2 = 'cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0'
  expect(unifiedRoot(`tmpfs /tmp tmpfs rw 0 0\n${v2}\n`)).toBe('/sys/fs/cgroup')
  expect(unifiedRoot(`cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n${v2}\n`)).toBeNull()
  expect(unifiedRoot(`cgroup /sys/fs/cgroup/net_cls cgroup rw,net_cls 0 0\n${v2}\n`)).toBe('/sys/fs/cgroup')
  expect(unifiedRoot('tmpfs /tmp tmpfs rw 0 0')).toBeNull()
})
