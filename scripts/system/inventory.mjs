/**
 * The host's inventory as sorted JSON lines, to be compared before and after. Run as a program it prints them:
 *
 *   node scripts/system/inventory.mjs [ID]     with the id of a system, only what is named after it
 */
import { readdirSync, readFileSync } from 'node:fs'
import * as host from './host.mjs'
import { MARK } from './processes.mjs'
import { isMain } from './tools.mjs'

// Programs that a system starts; the ones that carry its mark are found whatever they are called.
const PROGRAMS = /^(runsc|sandtrail|nats-server|postgres|bwrap|passt|pasta|slirp4netns)/

/**
 * @param {{ id?: string }} [filter] id of a system: six hexadecimal digits
 * @returns {Promise<string[]>}
 */
export async function inventory({ id } = {}) {
  const things = [
    ...listProcesses(),
    ...host.listMounts().map(({ point, source, type }) => ({ kind: 'mount', name: point, source, type })),
    ...host.listNetworkNamespaces().map((name) => ({ kind: 'netns', name })),
    ...host.listLinks().map((name) => ({ kind: 'link', name })),
    ...(await host.listNftTables()).map(({ family, name }) => ({ kind: 'nft-table', name, family })),
    ...host.listCgroups().map((name) => ({ kind: 'cgroup', name })),
    ...host.listLoopDevices().map(({ device, file }) => ({ kind: 'loop', name: file, device })),
    ...sandtrailSockets().map((name) => ({ kind: 'socket', name })),
  ]
  const lines = things.map((thing) => JSON.stringify(thing))
  // In a path the id stands alone, in a worker's names with two more digits.
  const wanted = id === undefined ? /^/ : new RegExp(`[/-]${id}([0-9a-f]{2})?(?![0-9a-f])`)
  return [...new Set(lines)].filter((line) => wanted.test(line)).sort()
}

// Sockets of other programs come and go.
const sandtrailSockets = () => host.listUnixSockets().filter((path) => path.includes('sandtrail'))

function listProcesses() {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && entry !== String(process.pid))
    .flatMap((pid) => {
      // A service that was started to break somewhere is the same service.
      const argv = read(`/proc/${pid}/cmdline`)
        .split('\0')
        .filter((word) => word !== '--conditions=failpoints')
      const mark = read(`/proc/${pid}/environ`)
        .split('\0')
        .find((entry) => entry.startsWith(`${MARK}=`))
      const program = argv[0]?.split('/').at(-1) ?? ''
      if (mark === undefined && !PROGRAMS.test(program)) return []
      return [{ kind: 'process', name: argv.join(' ').trim(), pid: Number(pid), system: mark?.split('=')[1] }]
    })
}

/** @param {string} path */
function read(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

if (isMain(import.meta.url)) for (const line of await inventory({ id: process.argv[2] })) console.log(line)
