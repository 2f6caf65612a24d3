/**
 * Removes whatever a system has left on the host. Everything that it makes is named after its id or lies below its
 * state directory; nothing else is touched. Each step may be repeated.
 */
import { readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import * as host from './host.mjs'
import { processesOf, signal } from './processes.mjs'
import { systemId } from './state.mjs'
import { sh } from './tools.mjs'
import { until } from './until.mjs'

/** Resolves when nothing is left, and throws with a list of what would not go. @param {string} dir */
export async function removeLeftovers(dir) {
  await killProcesses(dir)
  await killCgroups(dir)
  await removeNetwork(dir)
  await unmountAll(dir)
  await detachLoopDevices(dir)
  const left = await leftovers(dir)
  if (left.length > 0) throw new Error(`these things of ${dir} would not go:\n  ${left.join('\n  ')}`)
}

/** @param {string} dir */
async function leftovers(dir) {
  return [
    ...processesOf(dir).map(({ pid, command }) => `process ${pid}: ${command}`),
    ...cgroupsOf(dir),
    ...host.listNetworkNamespaces().filter(named(dir)),
    ...host.listLinks().filter(named(dir)),
    ...mountsOf(dir),
    ...loopDevicesOf(dir),
  ]
}

/**
 * Names that workers give: `sandtrail-<id><nn>…` or `st-<id><nn>…`, nn being the worker's number.
 * @param {string} dir @returns {(name: string) => boolean}
 */
function named(dir) {
  const pattern = new RegExp(`^(sandtrail|st)-${systemId(dir)}[0-9a-f]{2}(?![0-9a-f])`)
  return (name) => pattern.test(name)
}

const mountsOf = (/** @type {string} */ dir) =>
  host
    .listMounts()
    .map(({ point }) => point)
    .filter((point) => point.startsWith(`${dir}/`))

const loopDevicesOf = (/** @type {string} */ dir) =>
  host
    .listLoopDevices()
    .filter(({ file }) => file.startsWith(`${dir}/`))
    .map(({ device }) => device)

/** The cgroups named after the system and all below them, children last. @param {string} dir */
function cgroupsOf(dir) {
  const isOurs = named(dir)
  return host.listCgroups().filter((path) => path.split('/').some(isOurs))
}

/** @param {string} dir */
async function killProcesses(dir) {
  // Again and again: one that was just being started was not in the list.
  await until(() => {
    const alive = processesOf(dir)
    for (const each of alive) signal(each, 'SIGKILL')
    return alive.length === 0
  }, 10_000)
}

/** @param {string} dir */
async function killCgroups(dir) {
  await until(() => {
    const groups = cgroupsOf(dir).reverse()
    for (const group of groups) {
      for (const pid of pidsIn(group)) kill(pid)
      thaw(group)
      remove(group)
    }
    return groups.length === 0
  }, 10_000)
}

/** @param {string} group */
function pidsIn(group) {
  try {
    return readFileSync(`${group}/cgroup.procs`, 'utf8').trim().split('\n').filter(Boolean).map(Number)
  } catch {
    return []
  }
}

/** @param {number} pid */
function kill(pid) {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // Gone already.
  }
}

/** A frozen process does not die. @param {string} group */
function thaw(group) {
  try {
    writeFileSync(`${group}/freezer.state`, 'THAWED')
  } catch {
    // No freezer here.
  }
}

/** @param {string} group */
function remove(group) {
  try {
    rmdirSync(group)
  } catch {
    // Not empty yet: the next round.
  }
}

/** @param {string} dir */
async function removeNetwork(dir) {
  const isOurs = named(dir)
  for (const { family, name } of (await host.listNftTables()).filter((table) => isOurs(table.name))) {
    await tolerate(sh('nft', ['delete', 'table', family, name]))
  }
  for (const name of host.listLinks().filter(isOurs)) await tolerate(sh('ip', ['link', 'delete', name]))
  for (const name of host.listNetworkNamespaces().filter(isOurs)) {
    await tolerate(sh('ip', ['netns', 'delete', basename(name)]))
  }
}

/** @param {string} dir */
async function unmountAll(dir) {
  await until(async () => {
    const points = mountsOf(dir).reverse()
    for (const point of points) await tolerate(sh('umount', [point]))
    return points.length === 0
  }, 10_000)
  // Held by somebody's shell, say: taken out of the tree at once, freed when that one goes.
  for (const point of mountsOf(dir).reverse()) await tolerate(sh('umount', ['--lazy', point]))
}

/** @param {string} dir */
async function detachLoopDevices(dir) {
  await until(async () => {
    const devices = loopDevicesOf(dir)
    for (const device of devices) await tolerate(sh('losetup', ['--detach', device]))
    return devices.length === 0
    // Many snapshots on a busy host: the filesystem lets its device go when it has written all of them.
  }, 60_000)
}

/** What fails here is found again by `leftovers`. @param {Promise<unknown>} work */
async function tolerate(work) {
  await work.catch(() => {})
}
