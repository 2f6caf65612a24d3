/**
 * Puts one writer's changes onto a tree that has gone on without it. By path, the last commit wins, deletions too.
 *
 * Both trees were written by guests and may hold anything: a directory that became a symlink to /etc, names with
 * newlines, devices. Neither can be written to any more, so one check is enough and cannot be raced: nothing is
 * touched below a path whose every ancestor was not seen to be a real directory.
 */

import type { Stats } from 'node:fs'
import { lstat, mkdir, rm, rmdir, unlink } from 'node:fs/promises'
import { runTool } from './tool.js'
import type { Change } from './tree-diff.js'

export interface MergeRequest {
  /** Read-only: what the writer left. */
  staged: string
  /** A writable snapshot of the newest version; nobody else knows of it yet. */
  target: string
  changes: Change[]
  /** Paths that others changed since the writer's base. */
  changedByOthers: ReadonlySet<string>
}

/** The kernel takes 2 MiB of arguments, pointers and environment included. */
const ARGV_BYTES_MAX = 1024 ** 2
const LSTATS_AT_ONCE = 64

/** Resolves with the paths of others that are overwritten or deleted, in byte order. */
export async function mergeOnto(request: MergeRequest): Promise<string[]> {
  const { changes, changedByOthers, staged, target } = request
  const overwritten = new Set<string>()
  const files = changes.filter(({ after }) => after !== null && after.kind !== 'd')

  const { real, changed } = await prepareDirectories(request, overwritten)
  await clearTheWay(request, files, overwritten)
  await deleteGone(request, real, overwritten)
  for (const { path } of files) if (changedByOthers.has(path)) overwritten.add(path)
  await copyFiles(staged, target, files)
  await copyDirectoryAttributes(staged, target, changed)
  return [...overwritten].sort()
}

/**
 * Makes every directory exist that the writer changed or that holds something of it, parents first.
 * `real`: those that are real directories in the target. `changed`: those whose attributes are still to be copied.
 */
async function prepareDirectories(
  { changes, changedByOthers, target }: MergeRequest,
  overwritten: Set<string>,
): Promise<{ real: Set<string>; changed: string[] }> {
  const made = new Map<string, string>()
  const needed = new Set<string>([''])
  const asked = new Set<string>([''])
  for (const { path, after } of changes) {
    for (const dir of ancestors(path)) (after === null ? asked : needed).add(dir)
    if (after?.kind === 'd') {
      made.set(path, after.attributes)
      needed.add(path)
    }
  }
  const real = new Set<string>()
  const changed = [...made.keys()]
  // A parent's name is a prefix of its children's, so it sorts before them.
  for (const dir of [...new Set([...needed, ...asked])].sort()) {
    if (!real.has(parentOf(dir)) && dir !== '') continue
    const stat = await lstatOrNull(at(target, dir))
    if (stat?.isDirectory()) {
      real.add(dir)
      const wanted = made.get(dir)
      if (changedByOthers.has(dir) && wanted !== undefined && wanted !== attributesOf(stat))
        overwritten.add(dir)
    } else if (needed.has(dir)) {
      // Another writer had deleted it, or put something else there.
      if (changedByOthers.has(dir)) overwritten.add(dir)
      if (stat !== null) await unlink(at(target, dir))
      await mkdir(at(target, dir), { mode: 0o700 })
      real.add(dir)
      if (!made.has(dir)) changed.push(dir)
    }
  }
  return { real, changed: changed.sort() }
}

/** A directory that stands where the writer has a file goes, with all that others put into it. */
async function clearTheWay(
  { changedByOthers, target }: MergeRequest,
  files: Change[],
  overwritten: Set<string>,
): Promise<void> {
  const doubtful = files.filter(({ path, before }) => before?.kind === 'd' || changedByOthers.has(path))
  const others = doubtful.length > 0 ? [...changedByOthers].sort() : []
  for (let i = 0; i < doubtful.length; i += LSTATS_AT_ONCE) {
    const some = doubtful.slice(i, i + LSTATS_AT_ONCE)
    const stats = await Promise.all(some.map(({ path }) => lstatOrNull(at(target, path))))
    for (const [index, { path }] of some.entries()) {
      if (!stats[index]?.isDirectory()) continue
      for (const other of below(path, others)) {
        if (await lstatOrNull(at(target, other))) overwritten.add(other)
      }
      await rm(at(target, path), { recursive: true })
    }
  }
}

/** Children before their directory, which goes only when nobody else put something into it. */
async function deleteGone(
  { changes, changedByOthers, target }: MergeRequest,
  real: ReadonlySet<string>,
  overwritten: Set<string>,
): Promise<void> {
  const gone = changes.filter(({ after }) => after === null).map(({ path }) => path)
  for (const path of gone.sort().reverse()) {
    if (!real.has(parentOf(path))) continue
    const stat = await lstatOrNull(at(target, path))
    if (stat === null) continue
    const deleted = stat.isDirectory()
      ? await removeIfEmpty(at(target, path))
      : await unlink(at(target, path)).then(() => true)
    if (deleted && changedByOthers.has(path)) overwritten.add(path)
  }
}

/**
 * Every directory is there by now, so `--parents` makes none. `-a` keeps special files, symlinks, xattrs and, within
 * one run, hard links: the names of one inode stand together, and a run takes about 1 MiB of names.
 */
async function copyFiles(staged: string, target: string, files: Change[]): Promise<void> {
  if (files.length === 0) return
  const linked = files.filter(({ after }) => after!.links > 1)
  linked.sort((a, b) => Number(a.after!.inode) - Number(b.after!.inode))
  const ordered = [...files.filter(({ after }) => after!.links === 1), ...linked]
  // Names are bytes, and an argument of Node's spawn is text: xargs hands them on as they are.
  const copy = ['cp', '-a', '--reflink=always', '--remove-destination', '--parents', '-t', target, '--']
  const input = nameList(ordered.map(({ path }) => path))
  await runTool('xargs', ['-0', '-x', '-s', String(ARGV_BYTES_MAX), ...copy], { cwd: staged, input })
}

/** Mode, owner, times and xattrs, no contents; last, because every entry made in a directory changes its times. */
async function copyDirectoryAttributes(staged: string, target: string, dirs: string[]): Promise<void> {
  if (dirs.length === 0) return
  const keep = `--numeric-owner --xattrs --xattrs-include='*'`
  // A shell for its pipe: the text is fixed, the two directories are arguments.
  const pipe =
    `set -o pipefail; tar -C "$1" -c -f - ${keep} --no-recursion --null --verbatim-files-from --files-from=- |` +
    ` tar -C "$2" -x -f - ${keep} -p --same-owner --delay-directory-restore`
  await runTool('bash', ['-c', pipe, 'attributes', staged, target], { input: nameList(dirs) })
}

function nameList(paths: string[]): Buffer {
  return Buffer.from(paths.map((path) => `./${path}\0`).join(''), 'latin1')
}

/** The part of a sorted list that lies below a directory, found by halving. */
function* below(dir: string, sorted: string[]): Generator<string> {
  const prefix = `${dir}/`
  let [low, high] = [0, sorted.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if (sorted[middle]! < prefix) low = middle + 1
    else high = middle
  }
  for (let i = low; i < sorted.length && sorted[i]!.startsWith(prefix); i++) yield sorted[i]!
}

async function removeIfEmpty(path: Buffer): Promise<boolean> {
  try {
    await rmdir(path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOTEMPTY') return false
    throw error
  }
}

async function lstatOrNull(path: Buffer): Promise<Stats | null> {
  try {
    return await lstat(path)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return null
    throw error
  }
}

/** As `find` prints them. */
function attributesOf(stat: Stats): string {
  return `${(stat.mode & 0o7777).toString(8)} ${stat.uid} ${stat.gid}`
}

function ancestors(path: string): string[] {
  const dirs: string[] = []
  for (let end = path.indexOf('/'); end !== -1; end = path.indexOf('/', end + 1))
    dirs.push(path.slice(0, end))
  return dirs
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')))
}

function at(dir: string, path: string): Buffer {
  return Buffer.concat([Buffer.from(dir), Buffer.from(path === '' ? '' : `/${path}`, 'latin1')])
}
