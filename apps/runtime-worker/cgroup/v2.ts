/**
 * A sandbox's cgroup on a host with cgroup v2 alone, as Debian, Ubuntu and Fedora boot: one directory, and `cgroup.kill`
 * takes all that is in it. What holds for v1 (v1.ts) holds here: it is made and limited before runsc joins, which leaves
 * alone what it finds, and every call is synchronous.
 */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { SandtrailError } from '#libs/domain'
import { directoriesIn, removeTree, tryRemove, unlessAbsent } from './files.js'
import { type CgroupLimits, CPU_PERIOD_US, type CpuLimits } from './limits.js'

/** A process outside of any cgroup weighs so much, as a group does by default. */
const WEIGHT_OF_CORE = 100
/** The kernel refuses more. */
const WEIGHT_MAX = 10_000
const CONTROLLERS = ['cpu', 'memory', 'pids']

let known: string | undefined

function root(): string {
  known ??= unifiedRoot(readFileSync('/proc/self/mounts', 'utf8')) ?? ''
  if (known === '') throw new Error('the host has no cgroup v2')
  return known
}

/** From the text of /proc/mounts: where cgroup v2 is, unless memory is in v1. Some mount a lone v1 `net_cls` beside v2. */
export function unifiedRoot(mounts: string): string | null {
  const lines = mounts.split('\n').map((line) => line.split(' '))
  if (lines.some(([, , type, options]) => type === 'cgroup' && options?.split(',').includes('memory')))
    return null
  return lines.find(([, , type]) => type === 'cgroup2')?.[1] ?? null
}

/** `name` is the path below the root: `sandtrail-<instance>/<sandboxId>`. Idempotent. */
export function createCgroup(name: string, limits: CgroupLimits): void {
  const path = join(root(), name)
  mkdirSync(path, { recursive: true })
  // A controller is there for a group when its parent hands it down, and so for all above.
  let parent = root()
  for (const part of name.split('/')) {
    handDown(parent)
    parent = join(parent, part)
  }
  set(dirname(name), 'cpu.weight', Math.min(WEIGHT_MAX, WEIGHT_OF_CORE * availableParallelism()))
  set(name, 'memory.max', limits.memoryBytes)
  // A kernel without swap has no such file.
  unlessAbsent(() => set(name, 'memory.swap.max', 0))
  setCpuLimits(name, limits)
  set(name, 'pids.max', limits.pidsMax)
}

function handDown(parent: string): void {
  const file = join(parent, 'cgroup.subtree_control')
  const given = readFileSync(file, 'latin1').trim().split(' ')
  const lacking = CONTROLLERS.filter((controller) => !given.includes(controller))
  if (lacking.length === 0) return
  try {
    writeFileSync(file, lacking.map((controller) => `+${controller}`).join(' '))
  } catch (cause) {
    // Below the root of the host, a group hands nothing down while it has processes of its own.
    throw new SandtrailError(
      'UNAVAILABLE',
      `${parent} does not hand down the controllers ${lacking.join(', ')}`,
      {
        hint: "run the worker in the host's cgroup namespace (docker run --cgroupns=host)",
        retryable: false,
        cause,
      },
    )
  }
}

/** May be called again while the sandbox runs. */
export function setCpuLimits(name: string, limits: CpuLimits): void {
  const weight = Math.round((limits.cpuMillis * WEIGHT_OF_CORE) / 1000)
  set(name, 'cpu.weight', Math.min(WEIGHT_MAX, Math.max(1, weight)))
  if (limits.cpuLimitMillis === null) return
  const quota = Math.round((limits.cpuLimitMillis * CPU_PERIOD_US) / 1000)
  set(name, 'cpu.max', `${quota} ${CPU_PERIOD_US}`)
}

function set(name: string, file: string, value: number | string): void {
  writeFileSync(join(root(), name, file), String(value))
}

/** A process that writes its pid here is in the sandbox's reach: `killCgroup` finds it. */
export function joinFile(name: string): string {
  return join(root(), name, 'cgroup.procs')
}

/** SIGKILL for all of it. @returns whether it is empty now */
export async function killOnce(name: string): Promise<boolean> {
  if (isEmpty(name)) return true
  unlessAbsent(() => set(name, 'cgroup.kill', 1)) // Forks included, in one step.
  return isEmpty(name)
}

/** Groups below it included; a zombie that nobody has waited for does not count. */
function isEmpty(name: string): boolean {
  const events = unlessAbsent(() => readFileSync(join(root(), name, 'cgroup.events'), 'latin1'))
  return events === undefined || /^populated 0$/m.test(events)
}

/** Where the kernel counts what it killed for want of memory. */
export function oomFile(name: string): string {
  return join(root(), name, 'memory.events')
}

/** Removes it, and its parent when that was the last one in it. @returns whether it is gone */
export function removeCgroup(name: string): boolean {
  removeTree(join(root(), name))
  tryRemove(join(root(), dirname(name)))
  return !cgroupExists(name)
}

export function cgroupExists(name: string): boolean {
  return existsSync(join(root(), name))
}

/** The names of all cgroups directly below `parent`. */
export function cgroupsBelow(parent: string): string[] {
  return directoriesIn(join(root(), parent))
}

/** What is needed here and this host has not. */
export function missingControllers(): string[] {
  const controllers = readFileSync(join(root(), 'cgroup.controllers'), 'latin1').trim().split(' ')
  return CONTROLLERS.filter((controller) => !controllers.includes(controller))
}
