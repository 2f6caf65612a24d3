/** Secrets come sealed to this worker's own key and stay in memory: never in a file, an argv or a log. */

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { SealedSecrets } from '#libs/contract'
import { Rejected } from '#libs/domain'
import { createSealKey, type KeyPair, openSealed } from '#libs/messaging'
import { writeDurably } from '#libs/storage'
import type { ExecSecrets } from '../execs/execs.js'

const secrets = z.strictObject({ env: z.record(z.string(), z.string()), stdin: z.base64().optional() })

export interface SealKey {
  publicKey: string
  /** @throws Rejected INVALID_ARGUMENT when it was altered or sealed to another key. */
  open(sealed: SealedSecrets): ExecSecrets
}

/** The worker's key, made once and kept in `<state>/seal-key.json`, mode 0600. */
export async function loadSealKey(stateDir: string): Promise<SealKey> {
  const path = join(stateDir, 'seal-key.json')
  let pair: KeyPair
  try {
    pair = JSON.parse(await readFile(path, 'utf8')) as KeyPair
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    pair = createSealKey()
    await writeDurably(path, JSON.stringify(pair))
  }
  const { seed, publicKey } = pair
  return { publicKey, open: (sealed) => openSecrets(seed, sealed) }
}

function openSecrets(seed: string, sealed: SealedSecrets): ExecSecrets {
  if (sealed === null) return { env: {}, stdin: null }
  let opened: unknown
  try {
    opened = JSON.parse(Buffer.from(openSealed(seed, sealed)).toString('utf8'))
  } catch {
    // No cause: a parser's message quotes its input.
    throw new Rejected('INVALID_ARGUMENT', 'the secrets cannot be opened with the key of this worker')
  }
  const parsed = secrets.safeParse(opened)
  if (!parsed.success) throw new Rejected('INVALID_ARGUMENT', 'the secrets have not the expected form')
  const { env, stdin } = parsed.data
  return { env, stdin: stdin === undefined ? null : Buffer.from(stdin, 'base64') }
}
