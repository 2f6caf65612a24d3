/**
 * The files of one output stream: `<name>.<offset of the first byte>`, each SEGMENT_BYTES long but the last. A file
 * per segment, so that the oldest bytes can go while the newest arrive.
 */

import { readdirSync, statSync } from 'node:fs'
import { type FileHandle, open, unlink } from 'node:fs/promises'
import { join } from 'node:path'

/** A multiple of the hash's block. Bytes over the quota go in pieces of this size. */
export const SEGMENT_BYTES = 16 * 1024 ** 2

export interface Extent {
  /** Offset of the oldest byte that is kept. */
  first: number
  /** Offset of the byte that comes next. */
  end: number
}

/** What is on disk of a stream; nothing written yet is `{0, 0}`. */
export function findExtent(dir: string, name: string): Extent {
  const starts = readdirSync(dir)
    .map((file) => (file.startsWith(`${name}.`) ? file.slice(name.length + 1) : ''))
    .filter((suffix) => /^\d+$/.test(suffix))
    .map(Number)
    .sort((a, b) => a - b)
  if (starts.length === 0) return { first: 0, end: 0 }
  const last = starts.at(-1)!
  return { first: starts[0]!, end: last + statSync(segmentPath(dir, name, last)).size }
}

export function segmentPath(dir: string, name: string, start: number): string {
  return join(dir, `${name}.${start}`)
}

/** The bytes from `offset` on, up to `bytesMax` and the end of their segment; null: the segment is not there. */
export async function readSegment(
  dir: string,
  name: string,
  offset: number,
  bytesMax: number,
): Promise<Buffer | null> {
  const start = offset - (offset % SEGMENT_BYTES)
  let file: FileHandle
  try {
    file = await open(segmentPath(dir, name, start), 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
  try {
    const bytes = Buffer.allocUnsafe(Math.min(bytesMax, start + SEGMENT_BYTES - offset))
    const { bytesRead } = await file.read(bytes, 0, bytes.length, offset - start)
    return bytes.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

/** Appends to the newest segment and begins the next when it is full. */
export class SegmentWriter {
  private file: FileHandle | null = null
  private fileStart = -1

  constructor(
    private readonly dir: string,
    private readonly name: string,
  ) {}

  async write(offset: number, data: Buffer): Promise<void> {
    let at = offset
    let rest = data
    while (rest.length > 0) {
      const start = at - (at % SEGMENT_BYTES)
      const file = await this.openSegment(start)
      const piece = rest.subarray(0, start + SEGMENT_BYTES - at)
      const { bytesWritten } = await file.write(piece, 0, piece.length, at - start)
      at += bytesWritten
      rest = rest.subarray(bytesWritten)
    }
  }

  async removeSegment(start: number): Promise<void> {
    await unlink(segmentPath(this.dir, this.name, start))
  }

  /** Makes the newest segment durable and closes it; the ones before are already. */
  async close(): Promise<void> {
    const file = this.file
    this.file = null
    this.fileStart = -1
    if (file === null) return
    await file.datasync()
    await file.close()
  }

  private async openSegment(start: number): Promise<FileHandle> {
    if (this.file !== null && this.fileStart === start) return this.file
    await this.close()
    // Not 'a': Linux ignores the position of a write then.
    const flags = 'r+'
    const path = segmentPath(this.dir, this.name, start)
    this.file = await open(path, flags).catch(() => open(path, 'wx+', 0o600))
    this.fileStart = start
    return this.file
  }
}
