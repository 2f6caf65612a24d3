/** A pool of one's own for a test: btrfs on a sparse loop file, with quotas, gone at the end. */

import { mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runTool } from './tool.js'

export interface TestPool {
  /** Where it is mounted. */
  dir: string
  /** A directory beside it, on the host's own filesystem. */
  scratch: string
  remove(): Promise<void>
}

const POOL_BYTES = 2 * 1024 ** 3

export async function makeTestPool(bytes: number = POOL_BYTES): Promise<TestPool> {
  const home = await mkdtemp(join(tmpdir(), 'sandtrail-pool-'))
  const [file, dir, scratch] = [join(home, 'pool.img'), join(home, 'pool'), join(home, 'scratch')]
  await mkdir(dir)
  await mkdir(scratch)
  await writeFile(file, '')
  await truncate(file, bytes)
  await runTool('mkfs.btrfs', ['-q', file])
  // mount sets autoclear: the loop device goes with the last umount, whatever happens to this process.
  await runTool('mount', ['-o', 'loop,noatime,nodev,nosuid', file, dir])
  await runTool('btrfs', ['quota', 'enable', dir])
  return {
    dir,
    scratch,
    async remove() {
      await runTool('umount', [dir])
      await rm(home, { recursive: true })
    },
  }
}
