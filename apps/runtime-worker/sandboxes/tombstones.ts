/**
 * Epochs that have ended here and whose records are gone: `<state>/tombstones/<sandbox>`, holding the epoch. A create
 * that was held up somewhere must start nothing. Kept for a day; an order comes within seconds, or from a heartbeat.
 */

import { mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { SandboxId } from '#libs/domain'
import { writeDurably } from '#libs/storage'

const KEEP_MS = 24 * 3_600_000

export class Tombstones {
  private readonly epochs = new Map<SandboxId, number>()

  constructor(private readonly dir: string) {
    mkdirSync(dir, { recursive: true, mode: 0o700 })
    for (const name of readdirSync(dir)) {
      if (!name.endsWith('.new'))
        this.epochs.set(name as SandboxId, Number(readFileSync(join(dir, name), 'utf8')))
    }
  }

  /** True when this epoch, or a later one, has had its life here. */
  has(sandboxId: SandboxId, epoch: number): boolean {
    return (this.epochs.get(sandboxId) ?? 0) >= epoch
  }

  async add(sandboxId: SandboxId, epoch: number): Promise<void> {
    this.epochs.set(sandboxId, epoch)
    await writeDurably(join(this.dir, sandboxId), String(epoch))
  }

  removeOld(nowMs: number, dryRun: boolean): number {
    let count = 0
    for (const name of readdirSync(this.dir)) {
      const path = join(this.dir, name)
      if (statSync(path).mtimeMs >= nowMs - KEEP_MS) continue
      count++
      if (dryRun) continue
      rmSync(path, { force: true })
      this.epochs.delete(name as SandboxId)
    }
    return count
  }
}
