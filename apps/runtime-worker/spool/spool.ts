/**
 * What execs printed, kept on the host: `<state>/spool/<sandbox>/<exec>/{stdout,stderr}.<offset>`. It outlives the
 * sandbox by its time. A stream that no live exec writes is complete.
 */

import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs'
import { readdir, rm, rmdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { OutputSummary, SandboxId } from '#libs/domain'
import type { ExecKey } from '../sandboxes/journal.js'
import { OutputStream } from './output-stream.js'

export type StreamName = 'stdout' | 'stderr'

/** Unless it is set. */
export const KEEP_MS = 7 * 24 * 3_600_000

export class ExecOutput {
  readonly stdout: OutputStream
  readonly stderr: OutputStream

  constructor(dir: string, bytesMax: number, isNew = false) {
    this.stdout = new OutputStream(dir, 'stdout', bytesMax, isNew)
    this.stderr = new OutputStream(dir, 'stderr', bytesMax, isNew)
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

export class Spool {
  private readonly live = new Map<string, ExecOutput>()

  constructor(
    private readonly dir: string,
    private readonly bytesMax: number,
    private readonly keepMs = KEEP_MS,
  ) {
    mkdirSync(dir, { recursive: true, mode: 0o700 })
  }

  /** For writing: what is on disk already is gone on with. */
  open(sandboxId: SandboxId, execId: ExecKey): ExecOutput {
    const dir = join(this.dir, sandboxId, execId)
    const known = this.live.get(dir)
    if (known !== undefined) return known
    const isNew = makeDirectory(dir)
    const output = new ExecOutput(dir, this.bytesMax, isNew)
    this.live.set(dir, output)
    return output
  }

  /** The exec has ended: from now on its output is read from the files. */
  release(sandboxId: SandboxId, execId: ExecKey): void {
    const dir = join(this.dir, sandboxId, execId)
    this.live.get(dir)?.close()
    this.live.delete(dir)
  }

  /** For reading; null: there is no such exec, or its output is gone after its time. */
  find(sandboxId: SandboxId, execId: ExecKey): ExecOutput | null {
    const dir = join(this.dir, sandboxId, execId)
    const live = this.live.get(dir)
    if (live !== undefined) return live
    if (!existsSync(dir)) return null
    const output = new ExecOutput(dir, this.bytesMax)
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
        const { lastWriteMs, bytes } = lookAt(dir)
        if (this.live.has(dir) || lastWriteMs >= nowMs - this.keepMs) continue
        removed.execs++
        removed.bytes += bytes
        if (!dryRun) await rm(dir, { recursive: true, force: true })
      }
      if (!dryRun) await rmdir(sandboxDir).catch(() => {}) // ENOTEMPTY: some are kept.
    }
    return removed
  }
}

/** False when it was there: after a restart. */
function makeDirectory(dir: string): boolean {
  return mkdirSync(dir, { recursive: true, mode: 0o700 }) !== undefined
}

function lookAt(dir: string): { lastWriteMs: number; bytes: number } {
  const files = readdirSync(dir).map((file) => statSync(join(dir, file)))
  return {
    lastWriteMs: Math.max(statSync(dir).mtimeMs, ...files.map(({ mtimeMs }) => mtimeMs)),
    bytes: files.reduce((sum, { size }) => sum + size, 0),
  }
}
