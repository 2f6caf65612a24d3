/**
 * Processes that outlive the one that started them, each with a record on disk.
 *
 * A record names a process by pid, start time and boot, so that a pid that was given to somebody else is never hit.
 * Every process also carries MARK in its environment, inherited by whatever it starts: what a `kill -9` between the
 * spawn and the record left is found by it.
 */
import { spawn } from 'node:child_process'
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { until } from './until.mjs'

/** The environment variable whose value is the state directory that a process belongs to. */
export const MARK = '_SANDTRAIL_SYSTEM'

/** @typedef {{ pid: number, startTime: string, bootId: string }} ProcessIdentity */
/** @typedef {ProcessIdentity & { name: string, log: string, stopSignal: NodeJS.Signals }} ProcessRecord */

export const bootId = () => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()

/**
 * Start time of a live process in clock ticks since boot, or null when it is gone (a zombie is gone).
 * @param {number} pid
 */
export function startTime(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The name in parentheses may hold anything, spaces and parentheses included.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' || fields[0] === 'X' ? null : fields[19]
  } catch {
    return null
  }
}

/** @param {number} pid @returns {ProcessIdentity} */
export function identify(pid) {
  return { pid, startTime: startTime(pid) ?? '', bootId: bootId() }
}

/** @param {ProcessIdentity | null | undefined} identity */
export function isAlive(identity) {
  return (
    identity?.bootId === bootId() &&
    identity.startTime !== '' &&
    startTime(identity.pid) === identity.startTime
  )
}

/**
 * Starts a process in a session of its own, with its output appended to a file.
 *
 * @param {string} dir state directory of the system
 * @param {{ name: string, command: string, args: string[], env?: Record<string, string>, cwd?: string,
 *   uid?: number, gid?: number, log: string, stopSignal?: NodeJS.Signals }} options
 * @returns {ProcessRecord}
 */
export function launch(
  dir,
  { name, command, args, env = {}, cwd = '/', uid, gid, log, stopSignal = 'SIGTERM' },
) {
  mkdirSync(dirname(log), { recursive: true })
  mkdirSync(join(dir, 'processes'), { recursive: true })
  const output = openSync(log, 'a')
  const child = spawn(command, args, {
    cwd,
    uid,
    gid,
    detached: true,
    stdio: ['ignore', output, output],
    env: { PATH: SYSTEM_PATH, LANG: 'C.UTF-8', TZ: 'UTC', ...env, [MARK]: dir },
  })
  closeSync(output)
  child.on('error', () => {}) // Told below: no pid.
  child.unref()
  if (child.pid === undefined) throw new Error(`cannot start ${name}: ${command} does not run`)
  const record = { name, log, stopSignal, ...identify(child.pid) }
  const path = recordPath(dir, name)
  writeFileSync(`${path}.new`, JSON.stringify(record))
  renameSync(`${path}.new`, path)
  return record
}

const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

const recordPath = (/** @type {string} */ dir, /** @type {string} */ name) =>
  join(dir, 'processes', `${name}.json`)

/** @param {string} dir @param {string} name @returns {ProcessRecord | null} */
export function findProcess(dir, name) {
  try {
    return JSON.parse(readFileSync(recordPath(dir, name), 'utf8'))
  } catch {
    return null
  }
}

/** @param {string} dir @returns {ProcessRecord[]} */
export function listProcesses(dir) {
  try {
    const files = readdirSync(join(dir, 'processes')).filter((file) => file.endsWith('.json'))
    return files.map((file) => findProcess(dir, file.slice(0, -5))).filter((record) => record !== null)
  } catch {
    return []
  }
}

/**
 * Ends a process: its stop signal, and SIGKILL after `graceMs` (a service drains for 30 s at most). Its record goes once it is gone.
 * @param {string} dir @param {string} name @param {{ graceMs?: number }} [options]
 */
export async function stopProcess(dir, name, { graceMs = 35_000 } = {}) {
  const record = findProcess(dir, name)
  if (record === null) return
  signal(record, record.stopSignal)
  if (!(await until(() => !isAlive(record), graceMs))) {
    signal(record, 'SIGKILL')
    if (!(await until(() => !isAlive(record), 10_000)))
      throw new Error(`${name} (pid ${record.pid}) does not die`)
  }
  rmSync(recordPath(dir, name), { force: true })
}

/** @param {ProcessIdentity} identity @param {NodeJS.Signals} name */
export function signal(identity, name) {
  if (!isAlive(identity)) return
  try {
    process.kill(identity.pid, name)
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ESRCH') throw error
  }
}

/**
 * Live processes that belong to the system of `dir`: by their mark, or by its path among their arguments (runsc gives
 * its own children a bare environment, and an agent wipes what it was given).
 *
 * @param {string} dir @returns {(ProcessIdentity & { command: string })[]}
 */
export function processesOf(dir) {
  const mark = `${MARK}=${dir}`
  const found = []
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry)
    if (!Number.isInteger(pid) || pid === process.pid) continue
    const marked = read(`/proc/${pid}/environ`).split('\0').includes(mark)
    const argv = read(`/proc/${pid}/cmdline`).split('\0')
    if (!marked && !isOurSandbox(argv, dir)) continue
    const identity = identify(pid)
    if (identity.startTime !== '') found.push({ ...identity, command: argv.join(' ').trim() })
  }
  return found
}

// Only these are told by their arguments: a shell or an editor that merely names the directory is not ours to end.
function isOurSandbox(/** @type {string[]} */ argv, /** @type {string} */ dir) {
  return (
    /^(runsc|sandtrail-agent)/.test(argv[0]?.split('/').at(-1) ?? '') &&
    argv.some((argument) => argument.includes(`${dir}/`))
  )
}

/** @param {string} path */
function read(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
