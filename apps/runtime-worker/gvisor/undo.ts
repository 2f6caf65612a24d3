/** What a gVisor sandbox may have on the host, and how each of it goes. */

import { access } from 'node:fs/promises'
import type { SandboxId } from '#libs/domain'
import { failpoint } from '#libs/failpoint'
import type { Pool } from '#libs/storage'
import { cgroupExists, endCgroup, killCgroup } from '../cgroup/index.js'
import type { SandboxNetworks } from '../network/networks.js'
import type { Undoers } from '../unwind.js'
import { forget, knows, type RunscOptions } from './runsc.js'

export type GvisorRecord =
  /** The root subvolume and its quota. */
  | { kind: 'root'; sandboxId: SandboxId }
  /** The directory of mount slots and the subvolumes in it. */
  | { kind: 'slots'; sandboxId: SandboxId }
  /** A netns with its veth pair. */
  | { kind: 'network'; index: number }
  /** Every process of the sandbox, runsc's own included, is in it. */
  | { kind: 'cgroup'; name: string }
  /** What runsc remembers. */
  | { kind: 'container'; id: string; cgroupName: string }

/** Past this a process is taken to be stuck in the kernel: the record stays and is tried again later. */
const KILL_MS_MAX = 10_000

export function gvisorUndoers(
  runsc: RunscOptions,
  pool: Pool,
  networks: SandboxNetworks,
): Undoers<GvisorRecord> {
  return {
    container: {
      undo: async ({ id, cgroupName }) => {
        if (await killCgroup(cgroupName, KILL_MS_MAX)) await forget(runsc, id)
        failpoint('undo-container')
      },
      isGone: async ({ id }) => !(await knows(runsc, id)),
    },
    cgroup: {
      undo: async ({ name }) => {
        await endCgroup(name, KILL_MS_MAX)
        failpoint('undo-cgroup')
      },
      isGone: async ({ name }) => !cgroupExists(name),
    },
    network: {
      undo: async ({ index }) => {
        await networks.remove(index)
        failpoint('undo-network')
      },
      isGone: async ({ index }) => !(await networks.exists(index)),
    },
    slots: {
      undo: async ({ sandboxId }) => {
        await pool.removeSlots(sandboxId)
        failpoint('undo-slots')
      },
      isGone: async () => true, // `removeSlots` resolves only when they are gone.
    },
    root: {
      undo: async ({ sandboxId }) => {
        await pool.deleteRoot(sandboxId)
        failpoint('undo-root')
      },
      isGone: async ({ sandboxId }) => !(await exists(pool.rootPath(sandboxId))),
    },
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

/** A record in words, for the list of what would not go. */
export function describe(record: GvisorRecord): string {
  switch (record.kind) {
    case 'root':
      return `root of ${record.sandboxId}`
    case 'slots':
      return `mount slots of ${record.sandboxId}`
    case 'network':
      return `network ${record.index}`
    case 'cgroup':
      return `cgroup ${record.name}`
    case 'container':
      return `container ${record.id}`
  }
}
