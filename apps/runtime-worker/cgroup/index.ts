/** A sandbox's cgroup, in the version that has this host's controllers. A host does not change it. */

import { readFileSync } from 'node:fs'
import { until } from '../host/wait.js'
import { oomKillsIn, pidsIn } from './files.js'
import * as v1 from './v1.js'
import * as v2 from './v2.js'

export type { CgroupLimits, CpuLimits } from './limits.js'

export const isUnified = v2.unifiedRoot(readFileSync('/proc/self/mounts', 'utf8')) !== null
const version = isUnified ? v2 : v1

export const { cgroupExists, cgroupsBelow, createCgroup, joinFile, missingControllers, setCpuLimits } =
  version

/** Pids in the cgroup, runsc's own included; empty when there is no such cgroup. */
export function processesOf(name: string): number[] {
  return pidsIn(version.joinFile(name))
}

/** How often the kernel killed in this cgroup for want of memory; 0 when it is gone. Read it before the removal. */
export function oomKillsOf(name: string): number {
  return oomKillsIn(version.oomFile(name))
}

/**
 * SIGKILL for all of it until it is empty. What cannot die (a process in an uninterruptible wait) is left.
 *
 * @returns whether it is empty
 */
export async function killCgroup(name: string, timeoutMs: number): Promise<boolean> {
  return until(() => version.killOnce(name), { timeoutMs })
}

/** Kills all of it and removes it, and its parent when that was the last one in it. Idempotent. @returns whether it is gone */
export async function endCgroup(name: string, timeoutMs: number): Promise<boolean> {
  // Again and again: a process that is just exiting, or joining, keeps a directory from going.
  const isGone = async () => (await version.killOnce(name)) && version.removeCgroup(name)
  return until(isGone, { timeoutMs })
}
