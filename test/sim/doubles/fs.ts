/**
 * node:fs on the disk of the host whose process calls, and the little of /proc that the product reads. What is not
 * here throws (loader.mjs): nothing simulated reaches the real disk.
 */

import { type File, fsError } from '../disk.js'
import { currentProcess, currentWorld, type SimProcess } from '../world.js'

export * from 'node:fs'

interface Open {
  path: string
  /** Null for a directory. */
  file: File | null
  appends: boolean
  position: number
  owner: SimProcess
}

/** Far above the descriptors of the real process. */
const FD_MIN = 1_000_000
const descriptors = new Map<number, Open>()
let nextFd = FD_MIN

const world = () => currentWorld()!
/** Each call is one step at which its process may die: before its effect, or when it is done. */
export function step(): SimProcess {
  return world().operation()
}

export function opened(fd: number): Open {
  const found = descriptors.get(fd)
  if (found === undefined || found.owner !== currentProcess()) throw fsError('EBADF', String(fd))
  return found
}

export function openSync(path: string, flags = 'r'): number {
  const owner = step()
  const { disk } = owner.host
  const node = disk.find(path)
  let file: File | null
  if (node instanceof Map) file = null
  else if (flags.startsWith('r')) file = disk.file(path)
  else if (flags.includes('x') && node !== undefined) throw fsError('EEXIST', path)
  else file = node ?? disk.create(path, world().wallMs())
  if (flags.startsWith('w')) file?.truncate(0)
  descriptors.set(nextFd, { path, file, appends: flags.startsWith('a'), position: 0, owner })
  return nextFd++
}

export function closeSync(fd: number): void {
  step()
  opened(fd)
  descriptors.delete(fd)
}

/** Descriptors of former runs. */
export function forgetDescriptors(): void {
  descriptors.clear()
  nextFd = FD_MIN
}

export function writeSync(
  fd: number,
  bytes: Uint8Array,
  offset = 0,
  length = bytes.length - offset,
  position: number | null = null,
): number {
  step()
  const handle = opened(fd)
  const at = handle.appends ? handle.file!.data.length : (position ?? handle.position)
  handle.file!.write(bytes.subarray(offset, offset + length), at, world().wallMs())
  if (position === null) handle.position = at + length
  return length
}

export function readSync(
  fd: number,
  into: Uint8Array,
  offset: number,
  length: number,
  position: number,
): number {
  step()
  const piece = opened(fd).file!.data.subarray(position, position + length)
  into.set(piece, offset)
  return piece.length
}

export function ftruncateSync(fd: number, size: number): void {
  step()
  opened(fd).file!.truncate(size)
}

export function fstatSync(fd: number): { size: number } {
  return { size: opened(fd).file!.data.length }
}

export function fsyncSync(fd: number): void {
  step()
  opened(fd).file?.sync()
}

export const fdatasyncSync = fsyncSync

/** Durable when the disk says so, which takes its time. */
export function fdatasync(fd: number, done: (error: Error | null) => void): void {
  const { random } = world()
  const ms = random.chance(0.01) ? random.between(10, 800) : random.between(0.1, 2)
  void world()
    .operate<File | null>((resolve) => {
      const { file } = opened(fd)
      world().after(ms, () => resolve(file))
    })
    .then((file) => {
      file?.sync()
      done(null)
    }, done)
}

export function writeFileSync(path: string, text: string): void {
  const fd = openSync(path, 'w')
  writeSync(fd, Buffer.from(text))
  closeSync(fd)
}

export function readFileSync(path: string, encoding?: string): string | Buffer {
  const { host } = currentProcess()
  const uptime = (world().now + 10_000 - host.bootedAtMs) / 1000
  if (path === '/proc/uptime') return `${uptime.toFixed(2)} 0.00\n`
  if (path === '/proc/sys/kernel/random/boot_id') return `${host.bootId}\n`
  const { data } = host.disk.file(path)
  return encoding === undefined ? Buffer.from(data) : data.toString('utf8')
}

export function renameSync(from: string, to: string): void {
  step().host.disk.rename(from, to)
}

export function mkdirSync(path: string): string | undefined {
  return step().host.disk.makeDirectories(path) ? path : undefined
}

export function readdirSync(path: string, { withFileTypes = false } = {}) {
  const names = [...currentProcess().host.disk.directory(path).keys()].sort()
  if (!withFileTypes) return names
  return names.map((name) => ({ name, parentPath: path, ...statSync(`${path}/${name}`) }))
}

export function existsSync(path: string): boolean {
  return currentProcess().host.disk.find(path) !== undefined
}

export function statSync(path: string, { throwIfNoEntry = true } = {}) {
  const node = currentProcess().host.disk.find(path)
  if (node === undefined && !throwIfNoEntry) return undefined
  if (node === undefined) throw fsError('ENOENT', path)
  const isDirectory = node instanceof Map
  return {
    size: isDirectory ? 0 : node.data.length,
    blocks: isDirectory ? 0 : Math.ceil(node.data.length / 512),
    mtimeMs: isDirectory ? 0 : node.mtimeMs,
    mode: isDirectory ? 0o700 : 0o600,
    isFile: () => !isDirectory,
    isDirectory: () => isDirectory,
  }
}

export function rmSync(path: string, options = {}): void {
  step().host.disk.remove(path, options)
}
