/** Pools that cannot take a ready image, as a full one: asked again after a growing pause, not with each scan. */

import type { ImageId, WorkerId } from '#libs/domain'

/** Each try downloads and unpacks the whole image. Doubles from the first to the second figure. */
const REST_MS = [60_000, 3_600_000] as const

/** In memory: a restart asks each pool once more. */
export class Rests {
  private readonly rests = new Map<string, { failures: number; until: number }>()

  constructor(private readonly nowMs: () => number = () => performance.now()) {}

  isResting(imageId: ImageId, workerId: WorkerId): boolean {
    return (this.rests.get(`${imageId} ${workerId}`)?.until ?? Number.NEGATIVE_INFINITY) > this.nowMs()
  }

  failed(imageId: ImageId, workerId: WorkerId): void {
    const key = `${imageId} ${workerId}`
    const failures = this.rests.get(key)?.failures ?? 0
    const [first, most] = REST_MS
    this.rests.set(key, {
      failures: failures + 1,
      until: this.nowMs() + Math.min(first * 2 ** failures, most),
    })
  }

  filled(imageId: ImageId, workerId: WorkerId): void {
    this.rests.delete(`${imageId} ${workerId}`)
  }
}
