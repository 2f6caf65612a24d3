/**
 * Writable roots of sandboxes, as snapshots of images. A few are made ahead of need, because the snapshot itself
 * (15 to 50 ms, most of it the filesystem's commit) would otherwise stand in every create's way.
 */

import { rename } from 'node:fs/promises'
import { type ImageId, isId, Rejected, type SandboxId, SandtrailError } from '#libs/domain'
import {
  deleteSubvolume,
  inside,
  isSubvolume,
  limitBytes,
  namesIn,
  referencedBytes,
  snapshot,
} from './btrfs.js'
import type { Layout } from './layout.js'

interface Spare {
  name: string
  /** What it is limited to already; null for one that a former process left. */
  quotaBytes: number | null
}

/** Kept ready for each image that was used lately. */
export const SPARES_PER_IMAGE = 3
/** More images than this are rarely in use at once; spares of the others are removed. */
const IMAGES_WITH_SPARES = 8
/** A refill's commit of the filesystem must not stall the create that took the spare, nor its first exec. */
export const REFILL_DELAY_MS = 500

export class Roots {
  /** What lies in spare/, by image, least recently used image first. */
  readonly #spares = new Map<ImageId, Spare[]>()
  /** Most sandboxes ask for the default, so a spare gets the quota that was asked for last. */
  readonly #quotas = new Map<ImageId, number>()
  readonly #imageBytes = new Map<ImageId, number>()
  readonly #refills = new Map<ImageId, Promise<void>>()
  #serial = 0
  #closed = false

  constructor(private readonly layout: Layout) {}

  /** Takes over the spares that a former process left: they are as good as new. */
  async open(): Promise<void> {
    for (const name of await namesIn(this.layout.folder('spare'))) {
      const imageId = name.split('.')[0]
      const path = inside(this.layout.folder('spare'), name)
      if (isId('im', imageId) && (await isSubvolume(this.layout.image(imageId)))) {
        this.#spares.set(imageId, [...(this.#spares.get(imageId) ?? []), { name, quotaBytes: null }])
        this.#serial = Math.max(this.#serial, Number(name.split('.')[1]) || 0)
      } else {
        await deleteSubvolume(path)
      }
    }
  }

  /** Waits for refills in flight; no new ones begin. */
  async close(): Promise<void> {
    this.#closed = true
    await Promise.all(this.#refills.values())
  }

  /**
   * @param quotaBytes what the sandbox may add to its image; writes beyond it fail inside with EDQUOT.
   * @throws Rejected IMAGE_NOT_FOUND; SandtrailError INTERNAL when the sandbox has a root already.
   */
  async create(imageId: ImageId, sandboxId: SandboxId, quotaBytes: number): Promise<string> {
    const root = this.layout.root(sandboxId)
    const image = this.layout.image(imageId)
    if (!(await isSubvolume(image))) throw new Rejected('IMAGE_NOT_FOUND', `${imageId} is not in this pool`)
    if (await isSubvolume(root)) throw new SandtrailError('INTERNAL', `${sandboxId} has a root already`)
    const imageBytes = await this.#bytesOf(imageId)
    const spare = this.#take(imageId)
    if (spare === null) await snapshot(image, root, 'writable')
    else await rename(this.#path(spare), root)
    try {
      if (spare?.quotaBytes !== quotaBytes) await limitBytes(root, imageBytes + quotaBytes)
    } catch (error) {
      await deleteSubvolume(root).catch(() => {})
      throw error
    }
    this.#quotas.set(imageId, quotaBytes)
    this.#refill(imageId)
    return root
  }

  async delete(sandboxId: SandboxId): Promise<void> {
    await deleteSubvolume(this.layout.root(sandboxId))
  }

  async list(): Promise<SandboxId[]> {
    return (await namesIn(this.layout.folder('roots'))).filter((name) => isId('sb', name))
  }

  /** Makes the spares of an image now; for a worker that starts, and after an import. */
  async prepare(imageId: ImageId): Promise<void> {
    if (!(await isSubvolume(this.layout.image(imageId)))) return
    await this.#bytesOf(imageId)
    this.#refill(imageId, 0)
    await this.#refills.get(imageId)
  }

  /** No more spares of an image that goes. */
  async forget(imageId: ImageId): Promise<void> {
    await this.#refills.get(imageId)
    const surplus = this.#spares.get(imageId) ?? []
    this.#spares.delete(imageId)
    this.#imageBytes.delete(imageId)
    this.#quotas.delete(imageId)
    for (const spare of surplus) await deleteSubvolume(this.#path(spare))
  }

  /** An image never changes, so it is measured once. */
  async #bytesOf(imageId: ImageId): Promise<number> {
    const known = this.#imageBytes.get(imageId)
    if (known !== undefined) return known
    const bytes = await referencedBytes(this.layout.image(imageId))
    this.#imageBytes.set(imageId, bytes)
    return bytes
  }

  #take(imageId: ImageId): Spare | null {
    const spares = this.#spares.get(imageId) ?? []
    const spare = spares.shift() ?? null
    // Re-inserting keeps the map in order of use.
    this.#spares.delete(imageId)
    this.#spares.set(imageId, spares)
    return spare
  }

  #path({ name }: Spare): string {
    return inside(this.layout.folder('spare'), name)
  }

  #refill(imageId: ImageId, delayMs = REFILL_DELAY_MS): void {
    if (this.#closed || this.#refills.has(imageId)) return
    const work = new Promise<void>((resolve) => setTimeout(resolve, delayMs))
      .then(() => this.#fill(imageId))
      // Spares are a convenience: a full pool shows itself to the next create, which has a caller to tell.
      .catch(() => {})
      .finally(() => this.#refills.delete(imageId))
    this.#refills.set(imageId, work)
  }

  async #fill(imageId: ImageId): Promise<void> {
    const spares = this.#spares.get(imageId) ?? []
    this.#spares.set(imageId, spares)
    while (!this.#closed && spares.length < SPARES_PER_IMAGE && this.#spares.get(imageId) === spares) {
      this.#serial += 1
      const quotaBytes = this.#quotas.get(imageId) ?? null
      const spare = { name: `${imageId}.${this.#serial}`, quotaBytes }
      await snapshot(this.layout.image(imageId), this.#path(spare), 'writable')
      if (quotaBytes !== null)
        await limitBytes(this.#path(spare), (await this.#bytesOf(imageId)) + quotaBytes)
      spares.push(spare)
    }
    for (const [oldest] of this.#spares) {
      if (this.#spares.size <= IMAGES_WITH_SPARES) break
      const surplus = this.#spares.get(oldest) ?? []
      this.#spares.delete(oldest)
      for (const spare of surplus) await deleteSubvolume(this.#path(spare))
    }
  }
}
