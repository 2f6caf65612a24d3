/**
 * Unpacks a root tarball with GNU tar inside a bubblewrap jail: namespaces of its own (network too), /usr read-only,
 * nothing writable but the target. Whatever the archive says ("..", absolute names, a symlink and then a write
 * through it) can only land in the target or in a tmpfs that goes with the jail.
 *
 * Real uids, modes, xattrs and file capabilities are kept, so tar is root with the few capabilities which that takes.
 * Device nodes are dropped afterwards: both runtimes make their own /dev, and an image must not bring a way to a disk.
 */

import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { SandtrailError } from '#libs/domain'
import { runTool, TOOL_ENV, toolFailed } from './tool.js'

export interface UnpackLimits {
  /** Of the archive as it arrives. */
  archiveBytesMax: number
  entriesMax: number
  /** Unpacked bytes per byte of the archive, once `ratioFromBytes` are unpacked: below that a bomb does no harm. */
  ratioMax: number
  ratioFromBytes: number
  timeoutMs: number
}

export const UNPACK_LIMITS: UnpackLimits = {
  archiveBytesMax: 32 * 1024 ** 3,
  // A desktop distribution has about 400,000; the source is a tenfold of that.
  entriesMax: 4_000_000,
  // A root of a distribution has 2 to 4, one of zeros alone packed by gzip 1,030, by xz or zstd more than 6,000.
  ratioMax: 200,
  ratioFromBytes: 1024 ** 3,
  // Of the 900 s that an import has, a part is left for the download's retries.
  timeoutMs: 600_000,
}

export interface Unpacked {
  sha256: string
  bytes: number
}

/** Why the jail was killed; null while it may go on. */
interface Stop {
  error: SandtrailError | null
}

interface Feeding {
  limits: UnpackLimits
  kill: (error: SandtrailError) => void
  stop: Stop
  isDown: Promise<void>
}

const CAPABILITIES = ['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'FSETID', 'MKNOD', 'SETFCAP']
const STDERR_BYTES_MAX = 4096
/** tar's own, by default. */
const RECORD_BYTES = 10_240
const CHECKPOINT = /^\S*tar: unpacked records: (\d+)$/

/**
 * Streams `archive` (plain, gzip, xz, zstd) into the existing directory `target`.
 * `packedBytes`: how large the archive is said to be; what it unpacks to is judged by that.
 * What was written stays there when it fails: the caller removes it.
 *
 * @throws SandtrailError PAYLOAD_TOO_LARGE, QUOTA_EXCEEDED, NO_SPACE, DEADLINE_EXCEEDED, INVALID_ARGUMENT.
 */
export async function unpack(
  archive: AsyncIterable<Uint8Array>,
  target: string,
  packedBytes: number,
  limits: UnpackLimits = UNPACK_LIMITS,
): Promise<Unpacked> {
  const chunks = archive[Symbol.asyncIterator]()
  const head = await firstBytes(chunks)
  // A group of its own: a child of bubblewrap that is not yet bound to die with it would be left, with our pipes.
  const command = [...jail(target), 'tar', ...tarArgs(head)]
  const tar = spawn('bwrap', command, { env: TOOL_ENV, stdio: 'pipe', detached: true })
  const end = () => {
    if (tar.pid !== undefined && tar.exitCode === null && tar.signalCode === null) {
      process.kill(-tar.pid, 'SIGKILL')
    }
  }
  const stop: Stop = { error: null }
  const kill = (error: SandtrailError) => {
    stop.error ??= error
    end()
  }
  const timer = setTimeout(
    () =>
      kill(
        new SandtrailError('DEADLINE_EXCEEDED', 'unpacking the archive took too long', { retryable: false }),
      ),
    limits.timeoutMs,
  )
  const entries = countEntries(tar.stdout, limits.entriesMax, kill)
  let stderr = ''
  createInterface({ input: tar.stderr }).on('line', (line) => {
    const checkpoint = CHECKPOINT.exec(line)?.[1]
    if (checkpoint !== undefined) judgeRatio(Number(checkpoint) * RECORD_BYTES, packedBytes, limits, kill)
    else if (stderr.length < STDERR_BYTES_MAX) stderr += `${line}\n`
  })
  const ended = new Promise<number | string | null>((resolve, reject) => {
    tar.on('error', (cause) =>
      reject(new SandtrailError('INTERNAL', 'cannot run bwrap', { hint: 'install bubblewrap', cause })),
    )
    tar.on('close', (code, signal) => resolve(code ?? signal))
  })
  const isDown = ended.then(
    () => {},
    () => {},
  )
  try {
    const [sum, status] = await Promise.all([
      feed(head, chunks, tar.stdin, { limits, kill, stop, isDown }),
      ended,
    ])
    if (stop.error) throw stop.error
    if (status !== 0) throw unpackFailed(stderr, status)
    // tar takes no bytes at all for an archive too.
    if (entries.count === 0) throw notAnArchive('it has no entries')
    await runTool('bwrap', [
      ...jail(target),
      'find',
      '/target',
      '-xdev',
      '(',
      '-type',
      'b',
      '-o',
      '-type',
      'c',
      ')',
      '-delete',
    ])
    return sum
  } finally {
    clearTimeout(timer)
    end()
    await isDown
  }
}

function jail(target: string): string[] {
  return [
    ...['--unshare-ipc', '--unshare-pid', '--unshare-net', '--unshare-uts', '--unshare-cgroup-try'],
    ...['--die-with-parent', '--new-session', '--cap-drop', 'ALL'],
    ...CAPABILITIES.flatMap((name) => ['--cap-add', `CAP_${name}`]),
    ...['--ro-bind', '/usr', '/usr', '--symlink', 'usr/bin', '/bin', '--symlink', 'usr/sbin', '/sbin'],
    ...['--symlink', 'usr/lib', '/lib', '--ro-bind-try', '/lib64', '/lib64', '--dev', '/dev'],
    ...['--bind', target, '/target', '--chdir', '/target'],
    ...['--clearenv', '--setenv', 'PATH', '/usr/bin:/bin', '--setenv', 'LC_ALL', 'C'],
    // An xz stream may otherwise ask for 4 GiB of memory.
    ...['--setenv', 'XZ_DEFAULTS', '--memlimit-decompress=512MiB', '--'],
  ]
}

function tarArgs(head: Buffer): string[] {
  return [
    ...['--extract', '--file=-', '--directory=/target', '--verbose', '--quoting-style=escape'],
    ...['--numeric-owner', '--same-owner', '--preserve-permissions', '--xattrs', '--xattrs-include=*'],
    ...['--delay-directory-restore', '--warning=no-timestamp'],
    // On stderr, each 10 MiB of the unpacked archive: how many records were read.
    ...['--checkpoint=1024', '--checkpoint-action=echo=unpacked records: %u'],
    ...decompressor(head),
  ]
}

/** tar cannot look ahead in a pipe, so the format is told from the first bytes here. */
function decompressor(head: Buffer): string[] {
  if (head.subarray(0, 2).equals(Buffer.from([0x1f, 0x8b]))) return ['--gzip']
  if (head.subarray(0, 4).equals(Buffer.from([0x28, 0xb5, 0x2f, 0xfd]))) return ['--zstd']
  if (head.subarray(0, 6).equals(Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]))) return ['--xz']
  return []
}

async function firstBytes(chunks: AsyncIterator<Uint8Array>): Promise<Buffer> {
  let head = Buffer.alloc(0)
  while (head.length < 6) {
    const next = await chunks.next()
    if (next.done) break
    head = Buffer.concat([head, next.value])
  }
  return head
}

/** Writes everything to tar with back-pressure and hashes it on the way; stops early when tar is gone. */
async function feed(
  head: Buffer,
  chunks: AsyncIterator<Uint8Array>,
  stdin: NodeJS.WritableStream,
  { limits, kill, stop, isDown }: Feeding,
): Promise<Unpacked> {
  const hash = createHash('sha256')
  let bytes = 0
  let down = false
  const downToo = isDown.then(() => {
    down = true
  })
  // A broken pipe shows itself in tar's exit status.
  stdin.on('error', () => {})
  let chunk: Uint8Array = head
  while (!stop.error) {
    hash.update(chunk)
    bytes += chunk.length
    if (bytes > limits.archiveBytesMax) {
      kill(
        new SandtrailError('PAYLOAD_TOO_LARGE', `the archive has more than ${limits.archiveBytesMax} bytes`),
      )
      break
    }
    if (!down && !stdin.write(chunk)) {
      await Promise.race([new Promise((resolve) => stdin.once('drain', resolve)), downToo])
    }
    const next = await chunks.next().catch((cause: unknown) => {
      kill(new SandtrailError('UNAVAILABLE', 'the archive broke off', { cause }))
      return { done: true as const, value: undefined }
    })
    if (next.done) break
    chunk = next.value
  }
  // Padding after the end of the archive is read but not needed by tar, so it is hashed even when tar has ended.
  await chunks.return?.(undefined)
  stdin.end()
  return { sha256: hash.digest('hex'), bytes }
}

/** `--verbose` prints one line per entry; a newline within a name is escaped. */
function countEntries(
  stdout: Readable,
  max: number,
  kill: (error: SandtrailError) => void,
): { count: number } {
  const entries = { count: 0 }
  stdout.on('data', (chunk: Buffer) => {
    for (const byte of chunk) if (byte === 0x0a) entries.count += 1
    if (entries.count > max) {
      kill(new SandtrailError('PAYLOAD_TOO_LARGE', `the archive has more than ${max} entries`))
    }
  })
  return entries
}

function judgeRatio(
  unpacked: number,
  packed: number,
  { ratioMax, ratioFromBytes }: UnpackLimits,
  kill: (error: SandtrailError) => void,
): void {
  if (unpacked < ratioFromBytes || unpacked <= ratioMax * packed) return
  kill(
    new SandtrailError(
      'PAYLOAD_TOO_LARGE',
      `the archive unpacks to more than ${ratioMax} times its size: ${unpacked} bytes out of ${packed}`,
      { hint: 'send it without compression, or without files of zeros' },
    ),
  )
}

function unpackFailed(stderr: string, status: number | string | null): SandtrailError {
  const failed = toolFailed('tar', 'extract', stderr, status)
  if (failed.code !== 'INTERNAL' && failed.code !== 'INVALID_ARGUMENT') return failed
  return notAnArchive(reasonIn(stderr), failed.cause)
}

function notAnArchive(why: string, cause?: unknown): SandtrailError {
  return new SandtrailError('INVALID_ARGUMENT', `the archive cannot be unpacked: ${why}`, {
    hint: 'it must be a tar of a root filesystem, plain or packed by gzip, xz or zstd',
    cause,
  })
}

/** Longest of tar's own words that is told; names of the archive stand in them. */
const REASON_MAX = 300

/** The first complaint; what follows is mostly of its making. tar and xz escape nothing in names. */
function reasonIn(stderr: string): string {
  const lines = stderr.split('\n').map((line) => line.trim())
  const first = lines.find((line) => line !== '') ?? 'tar gave no reason'
  return first
    .replace(/^\S*?(tar|gzip|xz|zstd)\S*: /, '')
    .replace(/\p{Cc}|\p{Cf}/gu, '?')
    .slice(0, REASON_MAX)
}
