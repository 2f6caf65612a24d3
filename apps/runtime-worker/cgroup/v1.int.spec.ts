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
  joinFile,
  killCgroup,
  oomKillsOf,
  parseHierarchies,
  processesOf,
} from './v1.js'

const name = `sandtrail-${randomBytes(4).toString('hex')}/test`
const limits = { memoryBytes: 64 * 1024 ** 2, cpuMillis: 250, cpuLimitMillis: 500, pidsMax: 50 }
const roots = parseHierarchies(readFileSync('/proc/mounts', 'utf8'))
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
  const files = controllers.map((controller) => join(roots.get(controller)!, name, 'cgroup.procs'))
  const joining = files.map((file) => `echo $$ > ${file}`).join(' && ')
  const child = spawn('sh', ['-c', `${joining} && ${script}`], { stdio: ['ignore', 'pipe', 'ignore'] })
  children.push(child)
  return child
}

const value = (controller: string, file: string) =>
  readFileSync(join(roots.get(controller)!, name, file), 'utf8').trim()

test('limits are in force', async () => {
  createCgroup(name, limits)
  expect(value('memory', 'memory.limit_in_bytes')).toBe(String(limits.memoryBytes))
  expect(value('memory', 'memory.swappiness')).toBe('0')
  expect(value('cpu', 'cpu.shares')).toBe('256')
  expect(value('cpu', 'cpu.cfs_quota_us')).toBe('50000')
  expect(value('pids', 'pids.max')).toBe('50')
})

test('without a limit of CPU there is no quota', async () => {
  createCgroup(name, { ...limits, cpuLimitMillis: null })
  expect(value('cpu', 'cpu.cfs_quota_us')).toBe('-1')
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
  await writeFile(join(roots.get('freezer')!, name, 'freezer.state'), 'FROZEN')
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
  expect(existsSync(join(roots.get('memory')!, name, '..'))).toBe(false)
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
