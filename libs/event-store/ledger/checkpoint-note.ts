/**
 * Checkpoints in the text form of C2SP tlog-checkpoint, signed with Ed25519 as a C2SP signed note, so that other
 * people's witnesses and verifiers can read them:
 *
 *   origin
 *   size
 *   root, base64
 *
 *   — origin base64(key id, 4 bytes | signature)
 */

import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
  verify,
} from 'node:crypto'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { SandtrailError } from '#libs/domain'

export interface Checkpoint {
  origin: string
  size: number
  root: Buffer
}

export interface CheckpointSigner {
  /** The log's name, also the key's: `sandtrail.example.org/prod`. */
  origin: string
  /** `origin+key id+key`, the C2SP form of the public key: what auditors keep. */
  publicKey: string
  sign(size: number, root: Buffer): string
}

/** C2SP's number for Ed25519. */
const ED25519 = Buffer.from([1])
const ORIGIN = /^[^\s+]{1,200}$/

/** Writes a new private key (PKCS #8, PEM, mode 0600). Throws when the file is there already. */
export function createSignerKey(path: string): void {
  const { privateKey } = generateKeyPairSync('ed25519')
  writeFileSync(path, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600, flag: 'wx' })
}

/** The signer of the log `origin`. Throws INVALID_ARGUMENT when the key is readable by others or no Ed25519 key. */
export function loadSigner(path: string, origin: string): CheckpointSigner {
  if (!ORIGIN.test(origin)) {
    throw new SandtrailError(
      'INVALID_ARGUMENT',
      `origin "${origin}" must be 1 to 200 characters, no space, no "+"`,
    )
  }
  if ((statSync(path).mode & 0o077) !== 0) {
    throw new SandtrailError('INVALID_ARGUMENT', `${path} can be read by others`, {
      hint: `chmod 600 ${path}`,
    })
  }
  const key = createPrivateKey(readFileSync(path))
  if (key.asymmetricKeyType !== 'ed25519') {
    throw new SandtrailError('INVALID_ARGUMENT', `${path} is not an Ed25519 key`)
  }
  const raw = rawPublicKey(createPublicKey(key))
  const id = keyId(origin, raw)
  return {
    origin,
    publicKey: `${origin}+${id.toString('hex')}+${Buffer.concat([ED25519, raw]).toString('base64')}`,
    sign(size, root) {
      const text = `${origin}\n${size}\n${root.toString('base64')}\n`
      const signature = Buffer.concat([id, sign(null, Buffer.from(text), key)])
      return `${text}\n— ${origin} ${signature.toString('base64')}\n`
    },
  }
}

/** The checkpoint in the note, or null: not of this form, or not signed by this key. */
export function openCheckpoint(note: string, publicKey: string): Checkpoint | null {
  const { origin, id, key } = parsePublicKey(publicKey)
  const end = note.indexOf('\n\n')
  if (end < 0) return null
  const text = note.slice(0, end + 1)
  const [name, size, root, ...rest] = text.split('\n')
  if (name !== origin || !/^[1-9][0-9]{0,15}$/.test(size ?? '') || rest.join('') !== '') return null
  const rootBytes = fromBase64(root ?? '')
  if (rootBytes.length !== 32) return null

  const ours = note
    .slice(end + 2)
    .split('\n')
    .filter((line) => line.startsWith(`— ${origin} `))
    .map((line) => fromBase64(line.slice(`— ${origin} `.length)))
  const signed = ours.some(
    (bytes) =>
      bytes.length === 68 &&
      bytes.subarray(0, 4).equals(id) &&
      verify(null, Buffer.from(text), key, bytes.subarray(4)),
  )
  return signed ? { origin, size: Number(size), root: rootBytes } : null
}

/** Empty unless the text is the one and only base64 of its bytes. */
function fromBase64(text: string): Buffer {
  const bytes = Buffer.from(text, 'base64')
  return bytes.toString('base64') === text ? bytes : Buffer.alloc(0)
}

function parsePublicKey(text: string): { origin: string; id: Buffer; key: KeyObject } {
  // The base64 of the key may hold a "+" too: the origin and the id may not.
  const [origin = '', hexId = '', ...rest] = text.trim().split('+')
  const bytes = Buffer.from(rest.join('+'), 'base64')
  const raw = bytes.subarray(1)
  if (bytes.length !== 33 || bytes[0] !== ED25519[0] || keyId(origin, raw).toString('hex') !== hexId) {
    throw new SandtrailError('INVALID_ARGUMENT', 'the public key is not of the form origin+id+base64')
  }
  const key = createPublicKey({
    key: { kty: 'OKP', crv: 'Ed25519', x: raw.toString('base64url') },
    format: 'jwk',
  })
  return { origin, id: keyId(origin, raw), key }
}

function keyId(origin: string, raw: Buffer): Buffer {
  return createHash('sha256').update(`${origin}\n`).update(ED25519).update(raw).digest().subarray(0, 4)
}

function rawPublicKey(key: KeyObject): Buffer {
  return Buffer.from(key.export({ format: 'jwk' }).x as string, 'base64url')
}
