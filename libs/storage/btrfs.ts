/** What Sandtrail asks of btrfs. Every path is built by Layout from ids of ours, never from a guest's words. */

import { lstat, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { runTool } from './tool.js'

/** The inode number of every subvolume's root. */
const SUBVOLUME_INODE = 256n

/** True for a subvolume; false for anything else, nothing included. A symlink is not followed. */
export async function isSubvolume(path: string): Promise<boolean> {
  const stat = await lstat(path, { bigint: true }).catch(() => null)
  return stat?.isDirectory() === true && stat.ino === SUBVOLUME_INODE
}

export async function createSubvolume(path: string): Promise<void> {
  await runTool('btrfs', ['subvolume', 'create', path])
}

/** Atomic, and on disk when it resolves; what was written to `source` before is in it. */
export async function snapshot(
  source: string,
  target: string,
  mode: 'read-only' | 'writable',
): Promise<void> {
  const readOnly = mode === 'read-only' ? ['-r'] : []
  await runTool('btrfs', ['subvolume', 'snapshot', ...readOnly, source, target])
}

/** A snapshot inherits the limit of its source, so every new writable one is given its own. null: none. */
export async function limitBytes(path: string, bytes: number | null): Promise<void> {
  await runTool('btrfs', ['qgroup', 'limit', bytes === null ? 'none' : String(bytes), path])
}

export interface SubvolumeInfo {
  /** As its parent directory has it, whatever path led to it. */
  name: string
  id: number
  uuid: string
  /** UUID of what it is a snapshot of; `-` for none. */
  parentUuid: string
}

export async function subvolumeInfo(path: string): Promise<SubvolumeInfo> {
  const text = await runTool('btrfs', ['subvolume', 'show', path])
  const field = (name: string) => new RegExp(`^\\s*${name}:\\s*(\\S+)`, 'm').exec(text)?.[1] ?? ''
  return {
    name: field('Name'),
    id: Number(field('Subvolume ID')),
    uuid: field('UUID'),
    parentUuid: field('Parent UUID'),
  }
}

/** By id, for a place where a live guest could have put a symlink to something else by now. */
export async function deleteSubvolumeById(poolDir: string, id: number): Promise<void> {
  await runTool('btrfs', ['subvolume', 'delete', '--subvolid', String(id), poolDir])
}

/** Bytes that the subvolume refers to, shared ones included, as its quota counts them. */
export async function referencedBytes(path: string): Promise<number> {
  const table = await runTool('btrfs', ['qgroup', 'show', '--raw', '-f', path])
  const row = table.split('\n').find((line) => /^0\/\d+\s/.test(line))
  return Number(row?.trim().split(/\s+/)[1] ?? 0)
}

/**
 * Deletes a subvolume with whatever subvolumes lie in it; one that is not there is fine. Newer kernels take the quota
 * group with it; `clearStaleQuotas` does it on older ones.
 */
export async function deleteSubvolume(path: string): Promise<void> {
  if (!(await isSubvolume(path))) return
  try {
    await runTool('btrfs', ['subvolume', 'delete', path])
  } catch (error) {
    if (!(await hasSubvolumes(path))) throw error
    await deleteNested(path)
    if (await isSubvolume(path)) await runTool('btrfs', ['subvolume', 'delete', path])
  }
}

/** Each from its own directory, by `find`, which neither follows symlinks nor minds names that are no UTF-8. */
async function deleteNested(path: string): Promise<void> {
  await runTool('find', [...subvolumesBelow(path), '-execdir', 'btrfs', 'subvolume', 'delete', '{}', ';'])
  // btrfs has no path for what lies deeper than a path can be long. rm has no such limit, and an empty subvolume goes
  // like a directory; it only takes longer.
  if (await hasSubvolumes(path)) await runTool('rm', ['-rf', '--', path])
}

/** Deletes what stands at a path of ours, whether file, directory or subvolume. */
export async function deleteTree(path: string): Promise<void> {
  if (await isSubvolume(path)) return deleteSubvolume(path)
  if (await hasSubvolumes(path).catch(() => false)) await deleteNested(path)
  await rm(path, { recursive: true, force: true })
}

/** Removes quota groups whose subvolumes are gone. Kernels that cannot have any say so, which is as good. */
export async function clearStaleQuotas(dir: string): Promise<void> {
  await runTool('btrfs', ['qgroup', 'clear-stale', dir]).catch(() => {})
}

/** Names directly inside, `[]` when the directory is not there. */
export async function namesIn(dir: string): Promise<string[]> {
  try {
    return (await readdir(dir)).sort()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

/** Deepest first. */
function subvolumesBelow(path: string): string[] {
  return [path, '-mindepth', '1', '-depth', '-type', 'd', '-inum', '256']
}

async function hasSubvolumes(path: string): Promise<boolean> {
  return (await runTool('find', [...subvolumesBelow(path), '-printf', 'x', '-quit'])) !== ''
}

/** Where a path of ours leads; kept here so that only ids and fixed names are ever joined. */
export function inside(dir: string, ...names: string[]): string {
  for (const name of names) {
    if (name === '' || name === '.' || name === '..' || name.includes('/') || name.includes('\0')) {
      throw new Error(`not a name: ${JSON.stringify(name)}`)
    }
  }
  return join(dir, ...names)
}
