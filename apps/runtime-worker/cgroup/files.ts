/** Reading and removing cgroups' files and directories, which may go away meanwhile. */

import { type Dirent, readdirSync, readFileSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'

/** Undefined when the cgroup, or the file in it, is not there. */
export function unlessAbsent<T>(call: () => T): T | undefined {
  try {
    return call()
  } catch (error) {
    if (!['ENOENT', 'ENODEV'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
    return undefined
  }
}

/** Pids in a `cgroup.procs`; none when it is not there. */
export function pidsIn(path: string): number[] {
  const text = unlessAbsent(() => readFileSync(path, 'latin1')) ?? ''
  return text.split('\n').filter(Boolean).map(Number)
}

/** The count of kills in the text of an event file; the same line in both versions. */
export function oomKillsIn(path: string): number {
  const text = unlessAbsent(() => readFileSync(path, 'latin1')) ?? ''
  return Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0)
}

export function directoriesIn(path: string): string[] {
  const entries: Dirent[] = unlessAbsent(() => readdirSync(path, { withFileTypes: true })) ?? []
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name)
}

export function removeTree(path: string): void {
  for (const name of directoriesIn(path)) removeTree(join(path, name))
  tryRemove(path)
}

/** Busy, most often: a parent by its other sandboxes. */
export function tryRemove(path: string): void {
  try {
    rmdirSync(path)
  } catch (error) {
    if (!['EBUSY', 'ENOENT', 'ENOTEMPTY'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
  }
}
