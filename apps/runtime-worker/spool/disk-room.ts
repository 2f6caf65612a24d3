/**
 * Keeps a part of the state's disk free of output, so that journals, records and tombstones can always be written:
 * output may wait or go, and what a sandbox has lived through may not.
 */

import { statfsSync } from 'node:fs'

/** Others write to this disk too. */
const LOOK_MS = 1_000

export class DiskRoom {
  private leftBytes = 0
  private lookedAtMs = Number.NEGATIVE_INFINITY

  constructor(
    private readonly dir: string,
    private readonly reserveBytes: number,
  ) {}

  /** True when so many bytes more leave the reserve as it is; they count as written then. */
  take(bytes: number): boolean {
    if (this.leftBytes < bytes || performance.now() - this.lookedAtMs > LOOK_MS) this.look()
    if (this.leftBytes < bytes) return false
    this.leftBytes -= bytes
    return true
  }

  private look(): void {
    const { bavail, bsize } = statfsSync(this.dir)
    this.leftBytes = bavail * bsize - this.reserveBytes
    this.lookedAtMs = performance.now()
  }
}
