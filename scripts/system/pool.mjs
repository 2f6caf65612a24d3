/** The pool of one worker: a btrfs filesystem in a sparse file, with quotas that are enforced. */
import { existsSync, mkdirSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { listMounts } from './host.mjs'
import { sh, tools } from './tools.mjs'

const SIZE = process.env.SANDTRAIL_POOL_SIZE ?? '64G'

/**
 * Makes the pool unless it is there, mounts it unless it is mounted, and gives its mount point. `mount` takes the
 * loop device itself, so it is gone with the last umount.
 *
 * @param {string} dir state directory of the system @param {string} name
 */
export async function mountPool(dir, name) {
  const image = join(dir, 'pools', `${name}.img`)
  const point = join(dir, 'pools', name)
  mkdirSync(point, { recursive: true, mode: 0o700 })
  if (listMounts().some((mount) => mount.point === point)) return point
  if (!existsSync(image)) await makeImage(image, SIZE)
  await sh('mount', ['-t', 'btrfs', '-o', 'loop,noatime,nodev,nosuid,user_subvol_rm_allowed', image, point])
  await sh('btrfs', [
    'quota',
    'enable',
    ...(tools().SANDTRAIL_POOL_QUOTA === 'simple' ? ['--simple'] : []),
    point,
  ])
  return point
}

/** @param {string} image @param {string} size such as 64G */
async function makeImage(image, size) {
  const partial = `${image}.new`
  rmSync(partial, { force: true })
  writeFileSync(partial, '', { mode: 0o600 })
  truncateSync(partial, bytes(size))
  await sh('mkfs.btrfs', ['--quiet', partial])
  renameSync(partial, image)
}

/** @param {string} size a number with K, M, G or T */
function bytes(size) {
  const [, count, unit] = /^(\d+)([KMGT])$/.exec(size) ?? []
  if (count === undefined || unit === undefined)
    throw new Error(`SANDTRAIL_POOL_SIZE must be like 64G, not ${size}`)
  return Number(count) * 1024 ** ('KMGT'.indexOf(unit) + 1)
}
