/** Times as the SDKs have them: seconds since 1970, and the one of a sandbox that a list is paged by. */

import { makeId, type SandboxId, ULID_DIGITS } from '#libs/domain'

/** 0 for never. */
export function seconds(time: Date | string | null): number {
  return time === null ? 0 : +new Date(time) / 1_000
}

/**
 * The SDKs page by a time, strictly before it, so no two sandboxes may have the same: it is read from the id, its
 * milliseconds and, as their fraction, the first 11 of its random bits (a double holds no more of today's seconds).
 */
const FRACTIONS = 2 ** 11

export function timeIn(sandboxId: string): number {
  const digits = [...sandboxId.slice('sb-'.length)].map((digit) => ULID_DIGITS.indexOf(digit))
  const ms = digits.slice(0, 10).reduce((value, digit) => value * 32 + digit, 0)
  const fraction = Math.floor((digits[10]! * 1_024 + digits[11]! * 32 + digits[12]!) / 16) / FRACTIONS
  return (ms + fraction) / 1_000
}

/** Every sandbox with an earlier time has a lower id. */
export function firstIdAt(time: number): SandboxId {
  const units = Math.round(time * 1_000 * FRACTIONS)
  const fraction = units % FRACTIONS
  return makeId('sb', (units - fraction) / FRACTIONS, bytesOf(fraction))
}

/** The 11 bits in front of 80. */
function bytesOf(fraction: number): Uint8Array {
  const bytes = new Uint8Array(10)
  bytes[0] = fraction >> 3
  bytes[1] = (fraction & 7) << 5
  return bytes
}
