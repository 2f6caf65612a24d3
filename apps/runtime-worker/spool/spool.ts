/**
 * What execs printed, kept on the host: `<state>/spool/<sandbox>/<exec>/{stdout,stderr}.<offset>`. It outlives the
 * sandbox by its time. A stream that no live exec writes is complete.
 */

import { existsSync, mkdirSync } from 'node:fs'
import { readdir, rm, rmdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { OutputSummary, SandboxId } from '#libs/domain'
import type { ExecKey } from '../sandboxes/journal.js'
import { DiskRoom } from './disk-room.js'
import { KeptOutput, measure } from './kept.js'
import { OutputStream, type StreamLimits } from './output-stream.js'

export type StreamName = 'stdout' | 'stderr'

/** Unless it is set. */
export class ExecOutput {
  readonly stdout: OutputStream
  readonly stderr: OutputStream

  constructor(dir: string, limits: StreamLimits, isNew = false) {
    this.stdout = new OutputStream(dir, 'stdout', limits, isNew)
    this.stderr = new OutputStream(dir, 'stderr', limits, isNew)
  }

  async finish(): Promise<{ stdout: OutputSummary; stderr: OutputSummary }> {
    const [stdout, stderr] = await Promise.all([this.stdout.finish(), this.stderr.finish()])
    return { stdout, stderr }
  }

  close(): void {
    this.stdout.close()
    this.stderr.close()
  }
}

export interface SpoolLimits {
  /** Of one stream. */
  streamBytesMax: number
  /** Of all streams of a sandbox; 16 MiB of each live one stay whatever there is. */
  sandboxBytesMax: number
  /** Of an exec's output, after its end. */
  keepMs: number
  /** Of the disk, kept free of output. */
  reserveBytes: number
}

/** Freed at once when the disk is full, so that not each write has to. */
const EVICT_BYTES = 64 * 1024 ** 2

export class Spool {
  private readonly live = new Map<string, ExecOutput>()
  private readonly kept = new Map<SandboxId, KeptOutput>()
  private readonly room: DiskRoom
  private evicting: Promise<void> | null = null

  constructor(
    private readonly dir: string,
    private readonly limits: SpoolLimits,
  ) {
    mkdirSync(dir, { recursive: true, mode: 0o700 })
    this.room = new DiskRoom(dir, limits.reserveBytes)
  }

  /** For writing: what is on disk already is gone on with. */
  open(sandboxId: SandboxId, execId: ExecKey): ExecOutput {
    const dir = join(this.dir, sandboxId, execId)
    const known = this.live.get(dir)
    if (known !== undefined) return known
    const kept = this.keptOf(sandboxId)
    const isNew = makeDirectory(dir)
    const output = new ExecOutput(dir, this.limitsOf(kept), isNew)
    kept.onOpen(dir)
    this.live.set(dir, output)
    return output
  }

  /** The exec has ended: from now on its output is read from the files. */
  release(sandboxId: SandboxId, execId: ExecKey): void {
    const dir = join(this.dir, sandboxId, execId)
    const output = this.live.get(dir)
    if (output === undefined) return
    output.close()
    this.live.delete(dir)
    this.keptOf(sandboxId).onEnd(dir, output.stdout.keptBytes + output.stderr.keptBytes)
  }

  /** For reading; null: there is no such exec, or its output is gone after its time. */
  find(sandboxId: SandboxId, execId: ExecKey): ExecOutput | null {
    const dir = join(this.dir, sandboxId, execId)
    const live = this.live.get(dir)
    if (live !== undefined) return live
    if (!existsSync(dir)) return null
    const output = new ExecOutput(dir, this.limitsOf(new KeptOutput()))
    output.close()
    return output
  }

  /** Of all files. */
  async sizeBytes(): Promise<number> {
    let bytes = 0
    for (const entry of await readdir(this.dir, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue
      // One that has just been removed counts nothing.
      const info = await stat(join(entry.parentPath, entry.name)).catch(() => null)
      bytes += info?.size ?? 0
    }
    return bytes
  }

  /**
   * Removes the output of execs that ended longer ago than it is kept, one sandbox after the other; live ones are left
   * alone. How much went, or with `dryRun` would go.
   */
  async removeOld(nowMs: number, dryRun: boolean): Promise<{ execs: number; bytes: number }> {
    const removed = { execs: 0, bytes: 0 }
    for (const sandboxId of await readdir(this.dir)) {
      const sandboxDir = join(this.dir, sandboxId)
      for (const execId of await readdir(sandboxDir)) {
        const dir = join(sandboxDir, execId)
        const { lastWriteMs, bytes } = measure(dir)
        if (this.live.has(dir) || lastWriteMs >= nowMs - this.limits.keepMs) continue
        removed.execs++
        removed.bytes += bytes
        if (!dryRun) await rm(dir, { recursive: true, force: true })
      }
      if (dryRun) continue
      await rmdir(sandboxDir).catch(() => {}) // ENOTEMPTY: some are kept.
      // What it kept is found again in the files when that is asked for.
      const isLive = [...this.live.keys()].some((dir) => dir.startsWith(`${sandboxDir}/`))
      if (!isLive) this.kept.delete(sandboxId as SandboxId)
    }
    return removed
  }

  private keptOf(sandboxId: SandboxId): KeptOutput {
    let kept = this.kept.get(sandboxId)
    if (kept === undefined) {
      const sandboxDir = join(this.dir, sandboxId)
      kept = existsSync(sandboxDir) ? KeptOutput.find(sandboxDir) : new KeptOutput()
      this.kept.set(sandboxId, kept)
    }
    return kept
  }

  private limitsOf(kept: KeptOutput): StreamLimits {
    return {
      bytesMax: this.limits.streamBytesMax,
      room: async (bytes) => {
        if (this.room.take(bytes)) return true
        this.evicting ??= this.evict().finally(() => {
          this.evicting = null
        })
        await this.evicting
        return this.room.take(bytes)
      },
      count: async (bytes) => {
        kept.bytes += bytes
        while (kept.bytes > this.limits.sandboxBytesMax) if (!(await kept.removeOldest())) return true
        return false
      },
    }
  }

  /** Output of ended execs, of the sandbox that keeps most. What is live is its stream's to shorten. */
  private async evict(): Promise<void> {
    const all = (await readdir(this.dir)).map((sandboxId) => this.keptOf(sandboxId as SandboxId))
    for (let freed = 0; freed < EVICT_BYTES; ) {
      all.sort((a, b) => b.bytes - a.bytes)
      const [most] = all
      if (most === undefined) return
      const before = most.bytes
      if (await most.removeOldest()) freed += before - most.bytes
      else all.shift()
    }
  }
}

/** False when it was there: after a restart. */
function makeDirectory(dir: string): boolean {
  return mkdirSync(dir, { recursive: true, mode: 0o700 }) !== undefined
}
