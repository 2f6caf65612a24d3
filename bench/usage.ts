/** What the processes of a system use, from /proc. */

import { readdirSync, readFileSync } from 'node:fs'

export interface Usage {
  pid: number
  /** `sandbox`: runsc's own, two for each sandbox. Otherwise what the process calls itself, `node` with its program. */
  name: string
  /** User and system time, children that have ended included. */
  cpuMs: number
}

const TICK_MS = 10

/** Every process that the system of this state directory has started, and what they have started. */
export function processesOf(dir: string): Usage[] {
  return descendants(
    (argv, environ) => argv.some((word) => word.includes(dir)) || environ.includes(`=${dir}\0`),
  )
}

/** A server of Postgres by its port, with its backends. */
export function postgresOn(port: string): Usage[] {
  return descendants((argv) => argv.includes('-D') && argv.includes(port))
}

/** Those that are meant, and what they have started: a backend of Postgres has overwritten what would tell. */
function descendants(isMeant: (argv: string[], environ: string) => boolean): Usage[] {
  const all = new Map<number, Usage & { parent: number; isMeant: boolean }>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const argv = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0')
      const environ = readFileSync(`/proc/${name}/environ`, 'utf8')
      all.set(Number(name), { ...usageOf(Number(name), argv), isMeant: isMeant(argv, environ) })
    } catch {
      // It has ended meanwhile.
    }
  }
  const belongs = (pid: number): boolean => {
    const process = all.get(pid)
    return process !== undefined && (process.isMeant || belongs(process.parent))
  }
  return [...all.values()].filter(({ pid }) => belongs(pid))
}

function usageOf(pid: number, argv: string[]): Usage & { parent: number } {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // From the third field on; the name before may hold anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const ticks = [11, 12, 13, 14].map((n) => Number(fields[n])).reduce((sum, n) => sum + n)
  return { pid, parent: Number(fields[1]), name: nameOf(argv), cpuMs: ticks * TICK_MS }
}

function nameOf([program = '', ...args]: string[]): string {
  if (/^runsc-|\/runsc$/.test(program) || program === 'exe') return 'sandbox'
  const app = args.map((word) => /apps\/([a-z-]+)\//.exec(word)?.[1]).find(Boolean)
  return app ?? program.split(/[ :]/)[0]!.split('/').at(-1)!
}

/** CPU of each name between two looks, as a share of one core; what has ended in between is not counted. */
export function cpuBetween(before: Usage[], after: Usage[], ms: number): Map<string, number> {
  const earlier = new Map(before.map(({ pid, cpuMs }) => [pid, cpuMs]))
  const shares = new Map<string, number>()
  for (const { pid, name, cpuMs } of after) {
    const used = cpuMs - (earlier.get(pid) ?? 0)
    shares.set(name, (shares.get(name) ?? 0) + used / ms)
  }
  return shares
}

/**
 * Bytes that exist because of these processes: anonymous memory and shared memory by halves and thirds; not the files
 * that they have mapped, which are there once for all.
 */
export function memoryOf(processes: { pid: number }[]): number {
  let kib = 0
  for (const { pid } of processes) {
    try {
      const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
      for (const [, value] of rollup.matchAll(/^Pss_(?:Anon|Shmem): +(\d+) kB$/gm)) kib += Number(value)
    } catch {
      // It has ended meanwhile.
    }
  }
  return kib * 1024
}
