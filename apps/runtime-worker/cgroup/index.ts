/** A sandbox's cgroup, in the version that has this host's controllers. A host does not change it. */

import { readFileSync } from 'node:fs'
import * as v1 from './v1.js'
import * as v2 from './v2.js'

export type { CgroupLimits, CpuLimits } from './limits.js'

export const isUnified = v2.unifiedRoot(readFileSync('/proc/self/mounts', 'utf8')) !== null

export const {
  cgroupExists,
  cgroupsBelow,
  createCgroup,
  endCgroup,
  joinFile,
  killCgroup,
  missingControllers,
  oomKillsOf,
  processesOf,
  setCpuLimits,
} = isUnified ? v2 : v1
