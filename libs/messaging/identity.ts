/** Keys of workers: one to sign in to the broker with, one that secrets are sealed to. Seeds are secrets. */

import { createCurve, createUser, fromCurveSeed, fromSeed } from '@nats-io/nkeys'
import { SandtrailError } from '#libs/domain'

export interface KeyPair {
  /** Kept in a file of mode 0600, never in argv or a log. */
  seed: string
  publicKey: string
}

const encoder = new TextEncoder()
const decoder = new TextDecoder()

/** The key with which a worker signs in (`U…`); the broker's configuration holds the public half. */
export function createWorkerIdentity(): KeyPair {
  return exportPair(createUser())
}

/** The key that secrets are sealed to (`X…`); its public half travels in the worker's heartbeat. */
export function createSealKey(): KeyPair {
  return exportPair(createCurve())
}

/** The public half of a sign-in seed. @throws SandtrailError INVALID_ARGUMENT, without the seed. */
export function publicKeyOf(seed: string): string {
  try {
    return fromSeed(encoder.encode(seed)).getPublicKey()
  } catch {
    throw new SandtrailError('INVALID_ARGUMENT', 'the nkey seed is not usable')
  }
}

/**
 * Seals bytes so that only the holder of `publicKey` (`X…`) can open them. The sender's key is made for this one
 * message, so nothing that stays with us can open it. Text: `<sender's public key>.<base64>`.
 *
 * @throws SandtrailError INVALID_ARGUMENT when `publicKey` is no curve key.
 */
export function sealTo(publicKey: string, bytes: Uint8Array): string {
  const sender = createCurve()
  try {
    const box = sender.seal(bytes, publicKey)
    return `${sender.getPublicKey()}.${Buffer.from(box).toString('base64')}`
  } catch {
    throw new SandtrailError('INVALID_ARGUMENT', 'not a public curve key (X…)')
  } finally {
    sender.clear()
  }
}

/**
 * The other way, with the seed of the key that it was sealed to.
 *
 * @throws SandtrailError INVALID_ARGUMENT when it was altered or sealed to another key.
 */
export function openSealed(seed: string, sealed: string): Uint8Array {
  const [sender, box] = sealed.split('.')
  try {
    const key = fromCurveSeed(encoder.encode(seed))
    const bytes = key.open(new Uint8Array(Buffer.from(box ?? '', 'base64')), sender ?? '')
    if (bytes) return bytes
  } catch {
    // Told below, without what the library saw.
  }
  throw new SandtrailError('INVALID_ARGUMENT', 'the sealed value cannot be opened with this key')
}

function exportPair(pair: ReturnType<typeof createUser>): KeyPair {
  return { seed: decoder.decode(pair.getSeed()), publicKey: pair.getPublicKey() }
}
