/**
 * The ids that Modal's SDKs hold. The shape of a sandbox's id chooses the calls that an SDK makes for the rest of its
 * life: `sb-` and 22 letters or digits are the first generation, anything else is the second. Both name the same
 * sandbox: 128 bits, as a ULID or in base 62, so nothing needs to be stored. A task is its sandbox, seen as a container.
 */

import { isId, Rejected, type SandboxId, ULID_DIGITS } from '#libs/domain'

export type Generation = 1 | 2

const BASE62_DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const ULID_LENGTH = 26
/** 62^22 > 2^128. */
const BASE62_LENGTH = 22
const BITS_128 = 1n << 128n

/** As an SDK of this generation calls the sandbox. */
export function sandboxIdFor(generation: Generation, sandboxId: string): string {
  if (generation === 2) return sandboxId
  return `sb-${write(read(ulidOf(sandboxId), ULID_DIGITS), BASE62_DIGITS, BASE62_LENGTH)}`
}

/** @throws Rejected SANDBOX_NOT_FOUND for what is no id of a sandbox */
export function sandboxIdFrom(text: string): SandboxId {
  if (isId('sb', text)) return text
  const digits = text.slice('sb-'.length)
  if (text.startsWith('sb-') && /^[0-9A-Za-z]{22}$/.test(digits)) {
    const value = read(digits, BASE62_DIGITS)
    if (value < BITS_128) return `sb-${write(value, ULID_DIGITS, ULID_LENGTH)}`
  }
  throw new Rejected('SANDBOX_NOT_FOUND', `no sandbox has the id ${JSON.stringify(text.slice(0, 80))}`)
}

/** The Python SDK reads the generation from the last letter. */
export function taskIdFor(generation: Generation, sandboxId: string): string {
  return `ta-${ulidOf(sandboxId)}${generation === 2 ? 'V' : 'S'}`
}

/** @throws Rejected NOT_FOUND for what is no id of a task */
export function sandboxIdOfTask(taskId: string): SandboxId {
  const sandboxId = `sb-${taskId.slice('ta-'.length, -1)}`
  if (/^ta-.*[VS]$/.test(taskId) && isId('sb', sandboxId)) return sandboxId
  throw new Rejected('NOT_FOUND', `no task has the id ${JSON.stringify(taskId.slice(0, 80))}`)
}

function ulidOf(sandboxId: string): string {
  return sandboxId.slice('sb-'.length)
}

function read(digits: string, alphabet: string): bigint {
  const base = BigInt(alphabet.length)
  let value = 0n
  for (const digit of digits) value = value * base + BigInt(alphabet.indexOf(digit))
  return value
}

function write(value: bigint, alphabet: string, length: number): string {
  const base = BigInt(alphabet.length)
  let digits = ''
  for (let rest = value; digits.length < length; rest /= base) digits = alphabet[Number(rest % base)] + digits
  return digits
}
