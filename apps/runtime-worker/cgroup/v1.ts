/**
 * A sandbox's cgroup on a host with cgroup v1: one directory of the same name in every mounted hierarchy, because runsc
 * makes what is missing itself and would then own it. Limits are set here, before runsc joins; it leaves a cgroup that
 * it finds alone, so the count of out-of-memory kills outlives `runsc delete`.
 *
 * The calls to the kernel are synchronous: each takes some 50 us of its memory alone, while the pool of threads behind
 * the asynchronous ones is at times full of fsyncs (a create's share went from 100 ms to 2 ms).
 */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { until } from '../host/wait.js'
import { directoriesIn, pidsIn, removeTree, tryRemove, unlessAbsent } from './files.js'
import { type CgroupLimits, CPU_PERIOD_US, type CpuLimits } from './limits.js'

/** A process outside of any cgroup weighs so much. */
const SHARES_OF_CORE = 1024
/** The kernel refuses less. */
const CPU_SHARES_MIN = 2
/** A frozen group cannot fork: SIGKILL then reaches all of it in one sweep. 100 ms covers a busy host. */
const FREEZE_MS_MAX = 100

let known: ReadonlyMap<string, string> | undefined

/** Where each controller is mounted, read once: a host does not move them. Named ones (`systemd`) are among them. */
function hierarchies(): ReadonlyMap<string, string> {
  known ??= parseHierarchies(readFileSync('/proc/self/mounts', 'utf8'))
  return known
}

/** From the text of /proc/mounts: mount point by controller. */
export function parseHierarchies(mounts: string): Map<string, string> {
  const found = new Map<string, string>()
  for (const line of mounts.split('\n')) {
    const [, path, type, options = ''] = line.split(' ')
    if (type !== 'cgroup' || path === undefined) continue
    const named = options.split(',').find((option) => option.startsWith('name='))
    if (named) found.set(named.slice('name='.length), path)
    // Controllers that are mounted together (`cpu,cpuacct`) share one directory.
    else for (const option of options.split(',').filter((o) => CONTROLLERS.has(o))) found.set(option, path)
  }
  return found
}

const CONTROLLERS: ReadonlySet<string> = new Set([
  ...['blkio', 'cpu', 'cpuacct', 'cpuset', 'devices', 'freezer', 'hugetlb', 'memory', 'misc'],
  ...['net_cls', 'net_prio', 'perf_event', 'pids', 'rdma'],
])

/** `name` is the path below each hierarchy: `sandtrail-<instance>/<sandboxId>`. Idempotent. */
export function createCgroup(name: string, limits: CgroupLimits): void {
  for (const root of roots()) mkdirSync(join(root, name), { recursive: true })
  openCpuset(name)
  // All sandboxes together weigh as much as one busy process per core does: with the default of one such process for
  // all of them, a host that compiles something starved them.
  set('cpu', dirname(name), 'cpu.shares', SHARES_OF_CORE * availableParallelism())
  setMemory(name, limits.memoryBytes)
  setCpuLimits(name, limits)
  set('pids', name, 'pids.max', limits.pidsMax)
}

/** No process may join a cpuset that names no cores; a new one names none. */
function openCpuset(name: string): void {
  let parent = hierarchies().get('cpuset')
  if (parent === undefined) return
  for (const part of name.split('/')) {
    const child = join(parent, part)
    for (const file of ['cpuset.cpus', 'cpuset.mems']) {
      writeFileSync(join(child, file), readFileSync(join(parent, file)))
    }
    parent = child
  }
}

function setMemory(name: string, bytes: number): void {
  set('memory', name, 'memory.limit_in_bytes', bytes)
  // After the plain limit, which it may not be below. A kernel without swap accounting has no such file.
  unlessAbsent(() => set('memory', name, 'memory.memsw.limit_in_bytes', bytes))
  set('memory', name, 'memory.swappiness', 0)
}

/** May be called again while the sandbox runs. */
export function setCpuLimits(name: string, limits: CpuLimits): void {
  const shares = Math.max(CPU_SHARES_MIN, Math.round((limits.cpuMillis * SHARES_OF_CORE) / 1000))
  set('cpu', name, 'cpu.shares', shares)
  if (limits.cpuLimitMillis === null) return
  set('cpu', name, 'cpu.cfs_period_us', CPU_PERIOD_US)
  set('cpu', name, 'cpu.cfs_quota_us', Math.round((limits.cpuLimitMillis * CPU_PERIOD_US) / 1000))
}

function set(controller: string, name: string, file: string, value: number): void {
  writeFileSync(join(rootOf(controller), name, file), String(value))
}

/** A process that writes its pid here is in the sandbox's reach: `killCgroup` finds it. */
export function joinFile(name: string): string {
  return join(rootOf('freezer'), name, 'cgroup.procs')
}

/** SIGKILL for all of it. @returns whether it is empty now */
export async function killOnce(name: string): Promise<boolean> {
  if (pidsIn(joinFile(name)).length === 0) return true
  const state = join(rootOf('freezer'), name, 'freezer.state')
  const isFrozen = () => unlessAbsent(() => readFileSync(state, 'latin1'))?.startsWith('FROZEN') ?? true
  unlessAbsent(() => writeFileSync(state, 'FROZEN'))
  await until(isFrozen, { timeoutMs: FREEZE_MS_MAX, everyMs: 1 })
  for (const pid of pidsIn(joinFile(name))) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
  unlessAbsent(() => writeFileSync(state, 'THAWED'))
  return pidsIn(joinFile(name)).length === 0
}

/** Where the kernel counts what it killed for want of memory. */
export function oomFile(name: string): string {
  return join(rootOf('memory'), name, 'memory.oom_control')
}

/** Removes it, and its parent when that was the last one in it. @returns whether it is gone */
export function removeCgroup(name: string): boolean {
  for (const root of roots()) {
    removeTree(join(root, name))
    tryRemove(join(root, dirname(name)))
  }
  return !cgroupExists(name)
}

/** Whether any hierarchy still has it. */
export function cgroupExists(name: string): boolean {
  return roots().some((root) => existsSync(join(root, name)))
}

/** The names of all cgroups directly below `parent`, in any hierarchy. */
export function cgroupsBelow(parent: string): string[] {
  return [...new Set(roots().flatMap((root) => directoriesIn(join(root, parent))))]
}

/** What is needed here and this host has not. */
export function missingControllers(): string[] {
  return ['cpu', 'freezer', 'memory', 'pids'].filter((name) => !hierarchies().has(name))
}

function roots(): string[] {
  return [...new Set(hierarchies().values())]
}

function rootOf(controller: string): string {
  const root = hierarchies().get(controller)
  if (root === undefined) throw new Error(`the host has no cgroup v1 controller "${controller}"`)
  return root
}
