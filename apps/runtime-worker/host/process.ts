/** A process's identity: its pid alone may belong to another one by now, with its start time it cannot. */

import { readFileSync } from 'node:fs'

export interface ProcessIdentity {
  pid: number
  /** Clock ticks since the host's boot, as in /proc/<pid>/stat. */
  startTime: string
}

/** Null when there is no such process, or only its zombie. */
export function identify(pid: number): ProcessIdentity | null {
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  } catch {
    return null
  }
  // The name in parentheses may hold spaces and parentheses itself: the fields count from the last one.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const [state, startTime] = [fields[0], fields[19]]
  return state === undefined || startTime === undefined || 'ZX'.includes(state) ? null : { pid, startTime }
}

export function isAlive(process: ProcessIdentity): boolean {
  return identify(process.pid)?.startTime === process.startTime
}
