/**
 * CLOCK_BOOTTIME: it never jumps, counts suspend, and goes on over a restart of this process. Lifetimes are counted
 * on it, so that a sandbox dies on time whatever the wall clocks say. It is comparable only within one boot.
 */

import { readFileSync } from 'node:fs'

/** A timer may fire late by this much after a suspend, which only the next look at the clock reveals. */
const LOOK_AGAIN_MS = 5_000

/** Milliseconds since the host's boot, in steps of 10. */
export function bootMs(): number {
  const uptime = readFileSync('/proc/uptime', 'utf8')
  return Math.round(Number(uptime.slice(0, uptime.indexOf(' '))) * 1000)
}

/** Changes with each boot of the host. */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
}

/** Calls `action` once the boot clock has reached `atBootMs`; returns how to cancel. */
export function atBootTime(atBootMs: number, action: () => void): () => void {
  let timer: NodeJS.Timeout | undefined
  const look = () => {
    const leftMs = atBootMs - bootMs()
    if (leftMs <= 0) action()
    else timer = setTimeout(look, Math.min(leftMs, LOOK_AGAIN_MS))
  }
  timer = setTimeout(look, Math.min(Math.max(atBootMs - bootMs(), 0), LOOK_AGAIN_MS))
  return () => clearTimeout(timer)
}
