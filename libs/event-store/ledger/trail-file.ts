/**
 * The trail outside the database: an append-only file of JSON lines that a superuser of the database cannot rewrite.
 *
 *   {"position":1,"stream":"sb-01J…","version":1,"hash":"<hex>"}     one per event, the leaf of the Merkle tree
 *   {"checkpoint":"<signed note>"}                                   covers every position before it
 *
 * A line may come twice (a leader that was thought dead finished its write), always with the same content. A torn line
 * (power cut) is ended by a line break and its position written again.
 */

import { closeSync, fdatasyncSync, fstatSync, openSync, readSync, writeSync } from 'node:fs'

export interface TrailEntry {
  position: number
  stream: string
  version: number
  hash: string
}

/** The exact bytes of an entry's line, which are the leaf of the Merkle tree. */
export function entryLine({ position, stream, version, hash }: TrailEntry): string {
  return JSON.stringify({ position, stream, version, hash })
}

export type TrailLine = { entry: TrailEntry; text: string } | { checkpoint: string } | { torn: string }

export function parseLine(text: string): TrailLine {
  try {
    const value = JSON.parse(text)
    if (typeof value.checkpoint === 'string') return { checkpoint: value.checkpoint }
    const { position, stream, version, hash } = value
    const entry = { position, stream, version, hash }
    // Byte for byte, so that no two texts are the same entry.
    if (Number.isSafeInteger(position) && entryLine(entry) === text) return { entry, text }
  } catch {
    // Falls through: whatever it is, it is not a line that was written whole.
  }
  return { torn: text }
}

/** Tail that is read to find the last entry: some thousand lines, far more than the checkpoints in a row. */
const TAIL_BYTES = 1024 * 1024

/** One writer's open file. Calls are synchronous: a write of a batch takes less than a turn of the event loop. */
export class TrailFile {
  private readonly fd: number
  /** Where this writer believes the end to be. Another size means that another one has written. */
  private end = -1

  constructor(readonly path: string) {
    this.fd = openSync(path, 'a+', 0o644)
  }

  /** Finds the end as it is now, and the last entry, null for an empty file. Mends a torn last line. */
  synchronize(): TrailEntry | null {
    this.end = fstatSync(this.fd).size
    if (this.end === 0) return null
    const size = Math.min(this.end, TAIL_BYTES)
    const tail = Buffer.alloc(size)
    readSync(this.fd, tail, 0, size, this.end - size)
    if (tail[size - 1] !== 10) this.write('\n')
    const lines = tail.toString().split('\n').reverse()
    for (const text of lines) {
      const line = parseLine(text)
      if ('entry' in line) return line.entry
    }
    return null
  }

  /** True when somebody else has written since: then `synchronize` first. */
  hasMoved(): boolean {
    return fstatSync(this.fd).size !== this.end
  }

  append(entries: TrailEntry[]): void {
    this.write(entries.map((entry) => `${entryLine(entry)}\n`).join(''))
  }

  appendCheckpoint(note: string): void {
    this.write(`${JSON.stringify({ checkpoint: note })}\n`)
  }

  /** Everything written is on disk when this returns. */
  sync(): void {
    fdatasyncSync(this.fd)
  }

  close(): void {
    closeSync(this.fd)
  }

  private write(text: string): void {
    const bytes = Buffer.from(text)
    let written = 0
    while (written < bytes.length) written += writeSync(this.fd, bytes, written)
    this.end += bytes.length
  }
}
