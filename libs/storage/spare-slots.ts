/** Directories of mount slots made ahead of need: the subvolume and its limit would cost every create 20 ms. */

import { rename } from 'node:fs/promises'
import { createSubvolume, inside, limitBytes } from './btrfs.js'
import type { Layout } from './layout.js'
import { REFILL_DELAY_MS } from './roots.js'

const SPARES = 3
/** What a guest can put into the directory itself, beside the slots: nothing worth having. */
export const SLOTS_DIR_BYTES_MAX = 16 * 1024 ** 2

export class SpareSlots {
  readonly #ready: string[] = []
  #filling: Promise<void> | null = null
  #serial = 0
  #closed = false

  constructor(private readonly layout: Layout) {}

  /** Puts an empty directory at `path`, which must not exist. */
  async place(path: string): Promise<void> {
    const spare = this.#ready.shift()
    if (spare === undefined || !(await moved(spare, path))) await makeAt(path)
    this.fill(REFILL_DELAY_MS)
  }

  /** Begins to fill up, unless that is going on. What a former process made is gone by now. */
  fill(delayMs: number): void {
    if (this.#closed || this.#filling !== null) return
    this.#filling = new Promise<void>((resolve) => setTimeout(resolve, delayMs))
      .then(() => this.#fill())
      // A full pool shows itself to the next create, which has a caller to tell.
      .catch(() => {})
      .finally(() => {
        this.#filling = null
      })
  }

  /** Waits for what is being made; nothing more is. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#filling
  }

  async #fill(): Promise<void> {
    while (!this.#closed && this.#ready.length < SPARES) {
      this.#serial += 1
      const path = inside(this.layout.folder('spare-slots'), `${this.#serial}`)
      await makeAt(path)
      this.#ready.push(path)
    }
  }
}

/** False: somebody has opened the pool anew and cleared it. */
async function moved(spare: string, path: string): Promise<boolean> {
  try {
    await rename(spare, path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw error
  }
}

async function makeAt(path: string): Promise<void> {
  await createSubvolume(path)
  await limitBytes(path, SLOTS_DIR_BYTES_MAX)
}
