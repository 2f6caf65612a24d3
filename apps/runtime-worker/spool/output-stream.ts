/**
 * One output stream of a live exec on the host's disk: written at offsets by the agent's session, read from any offset
 * by as many as like. Readers take from the files, so a slow one holds up nobody.
 *
 * The digest covers every byte that was ever written. While the process lives Node's own hash runs along. Before the
 * oldest segment goes, the state of the hash at its end is kept in `<name>.hash`: a restart continues from there.
 * After a restart the digest lags behind and catches up from the files.
 */

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { open, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type OutputSummary, SandtrailError } from '#libs/domain'
import { passedBuffers } from './dead-buffers.js'
import { type Extent, findExtent, readSegment, SEGMENT_BYTES, SegmentWriter } from './segments.js'
import { Sha256, type Sha256State } from './sha256.js'

const HASH_PIECE_BYTES = 1024 ** 2
/** A full disk holds the writing process up; nothing is lost. */
const NO_SPACE_RETRY_MS = 1000

/** What a stream may take of the disk. */
export interface StreamLimits {
  /** Of this stream alone. */
  bytesMax: number
  /** Resolves true when so many bytes may be written now; false: the disk has no room for output. */
  room(bytes: number): Promise<boolean>
  /** Counts bytes that came, or went when negative. True: its sandbox keeps more than it may. */
  count(bytes: number): Promise<boolean>
}

interface Digest {
  update(data: Buffer): unknown
  digest(): string
}

export class OutputStream {
  private readonly writer: SegmentWriter
  private extent: Extent
  private digest: Digest
  private hashedTo: number
  private catchingUp: Promise<void> | null = null
  private tail: Promise<void> = Promise.resolve()
  private ended = false
  private summary: OutputSummary | null = null
  private readonly waiting = new Set<() => void>()
  /** The bytes that came last, for followers that keep up: they need not go by the disk. */
  private latest: { offset: number; data: Buffer } | null = null

  constructor(
    private readonly dir: string,
    private readonly name: 'stdout' | 'stderr',
    private readonly limits: StreamLimits,
    /** The directory was just made, so there is nothing to look for. */
    isNew = false,
  ) {
    this.writer = new SegmentWriter(dir, name)
    this.extent = isNew ? { first: 0, end: 0 } : findExtent(dir, name)
    const kept = isNew ? null : this.keptState()
    this.digest = kept === null ? nativeDigest() : new Sha256(kept)
    this.hashedTo = kept?.bytes ?? 0
    // A crash between keeping the state and removing the segment leaves what is dropped already.
    if (kept !== null) this.extent.first = Math.max(this.extent.first, kept.bytes)
  }

  /** Offset of the byte that comes next: what the agent need not send again. */
  get end(): number {
    return this.extent.end
  }

  get first(): number {
    return this.extent.first
  }

  get isEnded(): boolean {
    return this.ended
  }

  /** Takes what is new of `data`; resolves when it is in the kernel. @throws SandtrailError when bytes are missing. */
  append(offset: number, data: Buffer): Promise<void> {
    const done = this.tail.then(() => this.write(offset, data))
    this.tail = done.catch(() => {})
    return done
  }

  /** The end: what was written in all. Safe to call again. */
  async finish(): Promise<OutputSummary> {
    await this.tail
    await this.writer.close()
    while (this.hashedTo < this.extent.end) await this.catchUp()
    this.close()
    const { first, end } = this.extent
    this.summary ??= { bytes: end, droppedBytes: first, sha256: this.digest.digest() }
    return this.summary
  }

  /** Nothing more will come: readers that follow are let go, and its file is closed once what is under way is written. */
  close(): void {
    this.ended = true
    this.latest = null
    this.wake()
    void this.tail.then(() => this.writer.close()).catch(() => {})
  }

  /** Bytes from `offset` on, at most `bytesMax`; empty: none yet; null: they were dropped. */
  async read(offset: number, bytesMax: number): Promise<Buffer | null> {
    if (offset < this.extent.first) return null
    const bytes = Math.min(bytesMax, this.extent.end - offset)
    if (bytes <= 0) return Buffer.alloc(0)
    if (this.latest !== null && offset >= this.latest.offset) {
      const at = offset - this.latest.offset
      return this.latest.data.subarray(at, at + bytes)
    }
    passedBuffers(bytes)
    return readSegment(this.dir, this.name, offset, bytes)
  }

  /** Resolves when there is something at `offset`, at the end of the stream, or when `signal` aborts. */
  async readable(offset: number, signal: AbortSignal): Promise<void> {
    while (this.extent.end <= offset && !this.ended && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const wake = () => {
          this.waiting.delete(wake)
          signal.removeEventListener('abort', wake)
          resolve()
        }
        this.waiting.add(wake)
        signal.addEventListener('abort', wake)
      })
    }
  }

  private async write(offset: number, data: Buffer): Promise<void> {
    const { end } = this.extent
    if (offset > end) {
      throw new SandtrailError('INTERNAL', `output is missing between ${end} and ${offset}`)
    }
    const fresh = data.subarray(end - offset)
    if (fresh.length === 0 || this.ended) return
    await this.writeWhenThereIsSpace(end, fresh)
    if (this.hashedTo === end) {
      this.digest.update(fresh)
      this.hashedTo += fresh.length
    } else {
      // What goes wrong here goes wrong again in `finish`, where somebody waits for it.
      this.catchUp().catch(() => {})
    }
    this.latest = this.waiting.size > 0 ? { offset: end, data: fresh } : null
    this.extent.end += fresh.length
    passedBuffers(data.length)
    this.wake()
    let isOver = await this.limits.count(fresh.length)
    while (this.keptBytes > Math.max(this.limits.bytesMax, SEGMENT_BYTES) || (isOver && this.hasOlder)) {
      isOver = await this.dropOldest()
    }
  }

  /** A full disk takes the older output of who writes much; it holds up the others, and loses none of theirs. */
  private async writeWhenThereIsSpace(offset: number, data: Buffer): Promise<void> {
    for (;;) {
      try {
        if (await this.limits.room(data.length)) return await this.writer.write(offset, data)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
      }
      if (this.hasOlder) await this.dropOldest()
      else await delay(NO_SPACE_RETRY_MS)
    }
  }

  get keptBytes(): number {
    return this.extent.end - this.extent.first
  }

  /** The newest segment stays, however little there is to share. */
  private get hasOlder(): boolean {
    return this.keptBytes > SEGMENT_BYTES
  }

  /** True: its sandbox keeps too much all the same. */
  private async dropOldest(): Promise<boolean> {
    const start = this.extent.first - (this.extent.first % SEGMENT_BYTES)
    const next = start + SEGMENT_BYTES
    while (this.hashedTo < next) await this.catchUp()
    await this.keepStateAt(next)
    const dropped = next - this.extent.first
    this.extent.first = next
    await this.writer.removeSegment(start)
    return this.limits.count(-dropped)
  }

  /** Hashes on from the kept state to `offset`, by whole segments, and keeps the state there. */
  private async keepStateAt(offset: number): Promise<void> {
    const kept = this.keptState()
    const hash = new Sha256(kept ?? undefined)
    for (let at = kept?.bytes ?? 0; at < offset; ) {
      const piece = await readSegment(this.dir, this.name, at, Math.min(HASH_PIECE_BYTES, offset - at))
      if (piece === null || piece.length === 0)
        throw new SandtrailError('INTERNAL', `${this.name} has a hole`)
      hash.update(piece)
      at += piece.length
    }
    const path = join(this.dir, `${this.name}.hash`)
    const file = await open(`${path}.new`, 'w', 0o600)
    await file.writeFile(JSON.stringify(hash.save()))
    await file.datasync()
    await file.close()
    await rename(`${path}.new`, path)
  }

  private keptState(): Sha256State | null {
    try {
      return JSON.parse(readFileSync(join(this.dir, `${this.name}.hash`), 'utf8')) as Sha256State
    } catch {
      return null
    }
  }

  /** Reads what the digest has not seen yet. One at a time; resolves when it has seen everything. */
  private catchUp(): Promise<void> {
    this.catchingUp ??= this.hashRest().finally(() => {
      this.catchingUp = null
    })
    return this.catchingUp
  }

  private async hashRest(): Promise<void> {
    while (this.hashedTo < this.extent.end) {
      const piece = await this.readForHash()
      this.digest.update(piece)
      this.hashedTo += piece.length
    }
  }

  private async readForHash(): Promise<Buffer> {
    const bytes = Math.min(HASH_PIECE_BYTES, this.extent.end - this.hashedTo)
    const piece = await readSegment(this.dir, this.name, this.hashedTo, bytes)
    if (piece !== null && piece.length > 0) return piece
    throw new SandtrailError('INTERNAL', `${this.name} has a hole at ${this.hashedTo}`)
  }

  private wake(): void {
    for (const wake of [...this.waiting]) wake()
  }
}

function nativeDigest(): Digest {
  const hash = createHash('sha256')
  return { update: (data) => hash.update(data), digest: () => hash.digest('hex') }
}
