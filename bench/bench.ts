/** What the programs share: how much to do, and one stock system, started for the first that asks for it. */

import { type System, type SystemOptions, startSystem } from '../scripts/system/system.mjs'
import { tools } from '../scripts/system/tools.mjs'
import { type ByHand, byHand } from './by-hand.js'
import { type Client, openClient } from './client.js'
import type { Figure } from './figure.js'

export interface Bench {
  /** SIZE=full: as the targets say. Otherwise smaller, within a few minutes altogether. */
  full: boolean
  stock(): Promise<{ client: Client; hand: ByHand }>
  /** A system of the program's own; it stops it. */
  start(options: SystemOptions): Promise<{ system: System; client: Client; stop(): Promise<void> }>
}

/** Prints nothing itself, apart from what takes long, on stderr. */
export type Program = (bench: Bench) => Promise<Figure[]>

export function openBench(full: boolean): Bench & { close(): Promise<void> } {
  let shared: ReturnType<typeof startShared> | null = null
  const start: Bench['start'] = async (options) => {
    const system = await startSystem(options)
    const client = await openClient(system.env)
    const stop = async () => {
      await client.close()
      await system.stop()
    }
    return { system, client, stop }
  }
  const startShared = async () => {
    const { SANDTRAIL_RUNSC = '', SANDTRAIL_RUNSC_PLATFORM = '', SANDTRAIL_BASE_IMAGE = '' } = tools()
    const own = await start({ say: (line) => console.error(`starting ${line}`) })
    const hand = await byHand(SANDTRAIL_RUNSC, SANDTRAIL_RUNSC_PLATFORM, SANDTRAIL_BASE_IMAGE)
    return { ...own, hand }
  }
  return {
    full,
    start,
    stock() {
      shared ??= startShared()
      return shared
    },
    async close() {
      if (shared === null) return
      const { hand, stop } = await shared
      await hand.remove()
      await stop()
    },
  }
}
