/** The trail file in a backup, and what it tells when the log is set back to that backup. */

import { closeSync, fsyncSync, openSync, statSync, writeSync } from 'node:fs'
import { trailLines } from '../verify/trail-lines.js'
import { openCheckpoint } from './checkpoint-note.js'
import { entryLine, type TrailEntry } from './trail-file.js'

/**
 * Copies what concerns the positions up to `position`: their entries, each once, and the checkpoints of at most that
 * size. The copy is on the disk when this resolves; it must not exist yet.
 */
export async function copyTrail(
  from: string,
  to: string,
  { position, publicKey }: { position: number; publicKey: string },
): Promise<{ entries: number; checkpoints: number }> {
  const copied = { entries: 0, checkpoints: 0 }
  const fd = openSync(to, 'wx', 0o644)
  const write = (text: string) => {
    const bytes = Buffer.from(`${text}\n`)
    for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done)
  }
  try {
    for await (const line of trailLines(from, sizeOf(from))) {
      if ('entry' in line && line.entry.position > copied.entries && line.entry.position <= position) {
        copied.entries = line.entry.position
        write(line.text)
      } else if ('checkpoint' in line) {
        // One by another key is copied too: it is for `verify` to say so.
        if ((openCheckpoint(line.checkpoint, publicKey)?.size ?? 0) > position) continue
        copied.checkpoints += 1
        write(JSON.stringify({ checkpoint: line.checkpoint }))
      }
    }
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
  return copied
}

export interface TrailComparison {
  /** The last position in the file; 0 when it is empty or not there. */
  last: number
  /** Events that the file knows after the backup's position, and in how many streams. */
  lostEvents: number
  lostStreams: number
  /** The first position at which file and backup say different things: they are not of one log. */
  differsAt: number | null
}

/** What a trail file that is at hand knows beyond a backup's. */
export async function compareTrails(
  file: string,
  backup: string,
  position: number,
): Promise<TrailComparison> {
  const lost = new Set<string>()
  const result: TrailComparison = { last: 0, lostEvents: 0, lostStreams: 0, differsAt: null }
  const theirs = entriesOf(backup)
  for await (const entry of entriesOf(file)) {
    result.last = entry.position
    if (entry.position > position) {
      result.lostEvents += 1
      lost.add(entry.stream)
      continue
    }
    const { value: other } = await theirs.next()
    // The backup's may lack the last ones: the file followed its ledger after the backup had read it.
    if (other && entryLine(other) !== entryLine(entry)) {
      result.differsAt = entry.position
      break
    }
  }
  return { ...result, lostStreams: lost.size }
}

/** Each position once. */
async function* entriesOf(path: string): AsyncGenerator<TrailEntry, undefined> {
  let position = 0
  for await (const line of trailLines(path, sizeOf(path))) {
    if (!('entry' in line) || line.entry.position <= position) continue
    position = line.entry.position
    yield line.entry
  }
}

const sizeOf = (path: string) => statSync(path, { throwIfNoEntry: false })?.size ?? 0
