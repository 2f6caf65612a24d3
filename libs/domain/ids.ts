/**
 * Ids are made by the service, never by a client: a prefix that tells the kind and a ULID.
 * The shape is that of Modal's second-generation ids (`sb-` and 26 characters), so that its SDKs accept them.
 */

export type Id<Prefix extends string> = `${Prefix}-${string}`
export type SandboxId = Id<'sb'>
export type ExecId = Id<'ex'>
export type ImageId = Id<'im'>
export type SnapshotId = Id<'sn'>
export type VolumeId = Id<'vo'>
export type AppId = Id<'ap'>
export type WorkerId = Id<'wk'>

const ULID = /^[0-9A-HJKMNP-TV-Z]{26}$/
export const ULID_DIGITS = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'

/** True when `text` is `<prefix>-<ULID>`. No client string becomes a path or a subject before it passed here. */
export function isId<P extends string>(prefix: P, text: unknown): text is Id<P> {
  return typeof text === 'string' && text.startsWith(`${prefix}-`) && ULID.test(text.slice(prefix.length + 1))
}

/** Builds an id from a time (ms since 1970, 48 bits) and 10 random bytes, both given by the caller. */
export function makeId<P extends string>(prefix: P, atMs: number, random: Uint8Array): Id<P> {
  let time = ''
  let rest = atMs
  for (let i = 0; i < 10; i++) {
    time = ULID_DIGITS[rest % 32] + time
    rest = Math.floor(rest / 32)
  }
  let bits = 0n
  for (const byte of random.subarray(0, 10)) bits = (bits << 8n) | BigInt(byte)
  let tail = ''
  for (let i = 0; i < 16; i++) {
    tail = ULID_DIGITS[Number(bits & 31n)] + tail
    bits >>= 5n
  }
  return `${prefix}-${time}${tail}`
}
