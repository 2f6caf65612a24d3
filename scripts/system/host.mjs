/** What stands on this host: read only, straight from the kernel. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { sh } from './tools.mjs'

/** Mount points in this namespace, in the order they were mounted. @returns {{ point: string, source: string, type: string }[]} */
export function listMounts() {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').trim().split('\n')
  return lines.map((line) => {
    const [left = '', right = ''] = line.split(' - ')
    const [type = '', source = ''] = right.split(' ')
    return { point: unescapePath(left.split(' ')[4] ?? ''), source: unescapePath(source), type }
  })
}

// The kernel writes blanks, tabs and backslashes of a path as \040 and the like.
const unescapePath = (/** @type {string} */ path) =>
  path.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)))

export const listNetworkNamespaces = () => entries('/run/netns')

export const listLinks = () => entries('/sys/class/net')

/** Tables of nftables. @returns {Promise<{ family: string, name: string }[]>} */
export async function listNftTables() {
  try {
    const { nftables } = JSON.parse(await sh('nft', ['--json', 'list', 'tables']))
    return nftables.flatMap((/** @type {any} */ entry) => (entry.table ? [entry.table] : []))
  } catch {
    return [] // No nft, or no right to look: then none of ours is there.
  }
}

/** Loop devices in use. @returns {{ device: string, file: string }[]} */
export function listLoopDevices() {
  return entries('/sys/block')
    .filter((name) => name.startsWith('loop'))
    .flatMap((name) => {
      const file = read(`/sys/block/${name}/loop/backing_file`).trim()
      return file === '' ? [] : [{ device: `/dev/${name}`, file }]
    })
}

/** Directories of every cgroup hierarchy, parents first, down to `depth`. @returns {string[]} */
export function listCgroups(depth = 5) {
  const hierarchies = listMounts().filter(({ type }) => type === 'cgroup' || type === 'cgroup2')
  return hierarchies.flatMap(({ point }) => below(point, depth))
}

/** @param {string} dir @param {number} depth @returns {string[]} */
function below(dir, depth) {
  if (depth === 0) return []
  return subdirectories(dir).flatMap((path) => [path, ...below(path, depth - 1)])
}

/** @param {string} dir */
function subdirectories(dir) {
  try {
    const found = readdirSync(dir, { withFileTypes: true }).filter((entry) => entry.isDirectory())
    return found.map((entry) => join(dir, entry.name))
  } catch {
    return [] // It went away meanwhile.
  }
}

/** Paths of bound Unix sockets. */
export function listUnixSockets() {
  const lines = read('/proc/net/unix').split('\n').slice(1)
  return lines.map((line) => line.split(/\s+/).slice(7).join(' ')).filter((path) => path !== '')
}

/** @param {string} dir */
function entries(dir) {
  try {
    return readdirSync(dir).sort()
  } catch {
    return []
  }
}

/** @param {string} path */
function read(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
