/** What a sandbox's cgroup is told, in either version. */

export interface CpuLimits {
  /** The share under contention, in thousandths of a core. */
  cpuMillis: number
  /** Hard limit in thousandths of a core; null: none. */
  cpuLimitMillis: number | null
}

export interface CgroupLimits extends CpuLimits {
  /** Hard limit, swap included. */
  memoryBytes: number
  /** Processes and threads, runsc's own included. */
  pidsMax: number
}

/** The kernel's own period; shorter ones cost switches, longer ones make visible pauses. */
export const CPU_PERIOD_US = 100_000
