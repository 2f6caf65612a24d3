/**
 * A sandbox's cgroup on a host with cgroup v1: one directory of the same name in every mounted hierarchy, because runsc
 * makes what is missing itself and would then own it. Limits are set here, before runsc joins; it leaves a cgroup that
 * it finds alone, so the count of out-of-memory kills outlives `runsc delete`.
 */

import { readFileSync } from 'node:fs'
import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { until } from '../host/wait.js'

export interface CgroupLimits {
  /** Hard limit, swap included. */
  memoryBytes: number
  /** The share under contention, in thousandths of a core. */
  cpuMillis: number
  /** Hard limit in thousandths of a core; null: none. */
  cpuLimitMillis: number | null
  /** Processes and threads, runsc's own included. */
  pidsMax: number
}

/** The kernel's own period; shorter ones cost switches, longer ones make visible pauses. */
const CPU_PERIOD_US = 100_000
/** The kernel refuses less than 2 shares. 1024 shares stand for one core. */
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
export async function createCgroup(name: string, limits: CgroupLimits): Promise<void> {
  await Promise.all([...new Set(hierarchies().values())].map((root) => makeDirectory(root, name)))
  await Promise.all([
    setMemory(name, limits.memoryBytes),
    setCpu(name, limits),
    set('pids', name, 'pids.max', limits.pidsMax),
  ])
}

async function makeDirectory(root: string, name: string): Promise<void> {
  const path = join(root, name)
  // The parent goes when its last sandbox goes, which may be between the two steps of a recursive mkdir.
  await mkdir(path, { recursive: true }).catch(() => mkdir(path, { recursive: true }))
  if (root !== hierarchies().get('cpuset')) return
  // No process may join a cpuset that names no cores; a new one names none.
  let parent = root
  for (const part of name.split('/')) {
    const child = join(parent, part)
    for (const file of ['cpuset.cpus', 'cpuset.mems']) {
      await writeFile(join(child, file), await readFile(join(parent, file)))
    }
    parent = child
  }
}

async function setMemory(name: string, bytes: number): Promise<void> {
  await set('memory', name, 'memory.limit_in_bytes', bytes)
  // After the plain limit, which it may not be below. A kernel without swap accounting has no such file.
  await set('memory', name, 'memory.memsw.limit_in_bytes', bytes).catch(ignoreAbsent)
  await set('memory', name, 'memory.swappiness', 0)
}

async function setCpu(name: string, limits: CgroupLimits): Promise<void> {
  const shares = Math.max(CPU_SHARES_MIN, Math.round((limits.cpuMillis * 1024) / 1000))
  await set('cpu', name, 'cpu.shares', shares)
  if (limits.cpuLimitMillis === null) return
  await set('cpu', name, 'cpu.cfs_period_us', CPU_PERIOD_US)
  await set('cpu', name, 'cpu.cfs_quota_us', Math.round((limits.cpuLimitMillis * CPU_PERIOD_US) / 1000))
}

async function set(controller: string, name: string, file: string, value: number): Promise<void> {
  const root = hierarchies().get(controller)
  if (root === undefined) throw new Error(`the host has no cgroup v1 controller "${controller}"`)
  await writeFile(join(root, name, file), String(value))
}

/** A process that writes its pid here is in the sandbox's reach: `killCgroup` finds it. */
export function joinFile(name: string): string {
  return join(freezer(), name, 'cgroup.procs')
}

function freezer(): string {
  const root = hierarchies().get('freezer')
  if (root === undefined) throw new Error('the host has no cgroup v1 freezer')
  return root
}

/** Pids in the cgroup, runsc's own included; empty when there is no such cgroup. */
export async function processesOf(name: string): Promise<number[]> {
  const text = await readFile(joinFile(name), 'latin1').catch(ignoreAbsent)
  return (text ?? '').split('\n').filter(Boolean).map(Number)
}

/**
 * SIGKILL for all of it until it is empty. What cannot die (a process in an uninterruptible wait) is left.
 *
 * @returns whether it is empty
 */
export async function killCgroup(name: string, timeoutMs: number): Promise<boolean> {
  return until(() => killOnce(name), { timeoutMs })
}

async function killOnce(name: string): Promise<boolean> {
  if ((await processesOf(name)).length === 0) return true
  const state = join(freezer(), name, 'freezer.state')
  const frozen = async () => (await readFile(state, 'latin1').catch(() => '')).startsWith('FROZEN')
  await writeFile(state, 'FROZEN').catch(ignoreAbsent)
  await until(frozen, { timeoutMs: FREEZE_MS_MAX, everyMs: 1 })
  for (const pid of await processesOf(name)) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
  await writeFile(state, 'THAWED').catch(ignoreAbsent)
  return (await processesOf(name)).length === 0
}

/** How often the kernel killed in this cgroup for want of memory; 0 when it is gone. Read it before the removal. */
export async function oomKillsOf(name: string): Promise<number> {
  const root = hierarchies().get('memory')
  const text = root && (await readFile(join(root, name, 'memory.oom_control'), 'latin1').catch(ignoreAbsent))
  return Number(/^oom_kill (\d+)$/m.exec(text || '')?.[1] ?? 0)
}

/** Removes the emptied cgroup, and its parent when that was the last one in it. Idempotent. */
export async function removeCgroup(name: string): Promise<void> {
  for (const root of new Set(hierarchies().values())) {
    await removeTree(join(root, name))
    await rmdir(join(root, name, '..')).catch(() => {}) // In use by other sandboxes, most often.
  }
}

async function removeTree(path: string): Promise<void> {
  const entries = await readdir(path, { withFileTypes: true }).catch(ignoreAbsent)
  for (const entry of entries ?? []) if (entry.isDirectory()) await removeTree(join(path, entry.name))
  await rmdir(path).catch(ignoreAbsent)
}

/** Whether any hierarchy still has it. */
export async function cgroupExists(name: string): Promise<boolean> {
  const found = await Promise.all(
    [...new Set(hierarchies().values())].map((root) => readdir(join(root, name)).catch(ignoreAbsent)),
  )
  return found.some((entries) => entries !== undefined)
}

/** The names of all cgroups below `parent`, in any hierarchy. */
export async function cgroupsBelow(parent: string): Promise<string[]> {
  const names = new Set<string>()
  for (const root of new Set(hierarchies().values())) {
    const entries = await readdir(join(root, parent), { withFileTypes: true }).catch(ignoreAbsent)
    for (const entry of entries ?? []) if (entry.isDirectory()) names.add(entry.name)
  }
  return [...names]
}

function ignoreAbsent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT' && error.code !== 'ENODEV') throw error
}

/** What `createCgroup` and `killCgroup` need and this host has not. */
export function missingControllers(): string[] {
  return ['cpu', 'freezer', 'memory', 'pids'].filter((name) => !hierarchies().has(name))
}
