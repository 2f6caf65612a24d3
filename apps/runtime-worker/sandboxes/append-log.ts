/**
 * An append-only file of JSON lines. What was appended is in the kernel at once, so that it survives a kill -9 of this
 * process; `sync` makes it survive a power cut, and one fdatasync serves everyone who asked meanwhile.
 *
 * A torn last line, left by a power cut, was never promised to anyone and is cut off when the file is opened.
 */

import {
  closeSync,
  fdatasync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { promisify } from 'node:util'
import { SandtrailError } from '#libs/domain'

const dataSync = promisify(fdatasync)

export class AppendLog<Entry> {
  private inFlight: Promise<void> | null = null
  private queued: Promise<void> | null = null

  private constructor(
    private readonly path: string,
    private fd: number,
    private size: number,
  ) {}

  /** Opens or creates the file; resolves with what it holds, oldest first. */
  static open<Entry>(path: string): { log: AppendLog<Entry>; entries: Entry[] } {
    const fd = openSync(path, 'a+', 0o600)
    const content = readFileSync(path)
    const whole = content.lastIndexOf(0x0a) + 1
    if (whole < content.length) ftruncateSync(fd, whole)
    const lines = content.toString('utf8', 0, whole).split('\n').slice(0, -1)
    return { log: new AppendLog(path, fd, whole), entries: lines.map((line) => JSON.parse(line) as Entry) }
  }

  get bytes(): number {
    return this.size
  }

  /** @throws SandtrailError NO_SPACE; the file is then as it was before. */
  append(...entries: Entry[]): void {
    const bytes = Buffer.from(entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''))
    try {
      // Regular files take all or stop at a full disk.
      if (writeSync(this.fd, bytes) < bytes.length) throw new Error('short write')
    } catch (cause) {
      ftruncateSync(this.fd, this.size)
      throw new SandtrailError('NO_SPACE', `cannot append to ${this.path}`, { cause })
    }
    this.size += bytes.length
  }

  /** Resolves when everything that was appended before the call is on the disk. */
  sync(): Promise<void> {
    if (this.inFlight === null) return this.startSync()
    // The sync in flight may have begun before our bytes were written: the next one is ours.
    // A failed one fails this too: after an error the kernel may have dropped what it could not write.
    this.queued ??= this.inFlight
      .then(() => this.startSync())
      .finally(() => {
        this.queued = null
      })
    return this.queued
  }

  private startSync(): Promise<void> {
    const running = dataSync(this.fd).finally(() => {
      if (this.inFlight === running) this.inFlight = null
    })
    this.inFlight = running
    return running
  }

  /**
   * Replaces the whole content by one rename, durably. `onWritten` is called before anything else can be appended.
   * @throws SandtrailError NO_SPACE; the file is then as it was before
   */
  async rewrite(entries: () => Entry[], onWritten: () => void): Promise<void> {
    while (this.inFlight !== null || this.queued !== null) await (this.queued ?? this.inFlight)
    // Nothing below awaits, so no sync can begin on the descriptor that is closed at the end.
    const fresh = `${this.path}.new`
    const bytes = Buffer.from(
      entries()
        .map((entry) => `${JSON.stringify(entry)}\n`)
        .join(''),
    )
    const former = this.fd
    this.fd = writeFresh(fresh, this.path, bytes)
    this.size = bytes.length
    onWritten()
    closeSync(former)
    syncDirectory(dirname(this.path))
  }

  /** Safe to call again: the number of a closed descriptor soon belongs to another file. */
  async close(): Promise<void> {
    await this.inFlight?.catch(() => {})
    const fd = this.fd
    this.fd = CLOSED
    if (fd !== CLOSED) closeSync(fd)
  }
}

/** No descriptor: whatever is asked of it fails. */
const CLOSED = -1

/** Writes a file in full and renames it to `path`; the descriptor appends to it. */
function writeFresh(fresh: string, path: string, bytes: Buffer): number {
  rmSync(fresh, { force: true })
  const fd = openSync(fresh, 'a', 0o600)
  try {
    if (writeSync(fd, bytes) < bytes.length) throw new Error('short write')
    fsyncSync(fd)
    renameSync(fresh, path)
    return fd
  } catch (cause) {
    closeSync(fd)
    rmSync(fresh, { force: true })
    throw new SandtrailError('NO_SPACE', `cannot rewrite ${path}`, { cause })
  }
}

/** Makes the names in a directory durable. */
export function syncDirectory(path: string): void {
  const fd = openSync(path, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
