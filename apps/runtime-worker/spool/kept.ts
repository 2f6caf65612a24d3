/** What one sandbox keeps of its output, live and ended alike, and what of it may go first. */

import { readdirSync, statSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'

export class KeptOutput {
  /** Of all files. */
  bytes = 0
  /** Directories of ended execs, the one that ended first before all others, with their bytes. */
  private readonly ended = new Map<string, number>()

  /** With what an earlier process left in `sandboxDir`. */
  static find(sandboxDir: string): KeptOutput {
    const kept = new KeptOutput()
    const found = filesIn(sandboxDir)
      .map((name) => measure(join(sandboxDir, name)))
      .sort((a, b) => a.lastWriteMs - b.lastWriteMs)
    for (const { dir, bytes } of found) {
      kept.bytes += bytes
      kept.ended.set(dir, bytes)
    }
    return kept
  }

  /** It is written on: its bytes count, and it does not go. */
  onOpen(dir: string): void {
    this.ended.delete(dir)
  }

  onEnd(dir: string, bytes: number): void {
    this.ended.set(dir, bytes)
  }

  /** Removes the output of the exec that ended first. False: there is none. */
  async removeOldest(): Promise<boolean> {
    const [oldest] = this.ended
    if (oldest === undefined) return false
    const [dir, bytes] = oldest
    this.ended.delete(dir)
    this.bytes -= bytes
    await rm(dir, { recursive: true, force: true })
    return true
  }
}

/** What the files in a directory have, and when one of them was last written. It may be gone by now: then nothing. */
export function measure(dir: string): { dir: string; bytes: number; lastWriteMs: number } {
  const paths = [dir, ...filesIn(dir).map((file) => join(dir, file))]
  const found = paths.flatMap((path) => statSync(path, { throwIfNoEntry: false }) ?? [])
  return {
    dir,
    bytes: found.reduce((sum, info) => sum + (info.isFile() ? info.size : 0), 0),
    lastWriteMs: Math.max(0, ...found.map(({ mtimeMs }) => mtimeMs)),
  }
}

function filesIn(dir: string): string[] {
  try {
    return readdirSync(dir)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
