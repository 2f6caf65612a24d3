/** What a sandbox was asked to be: `<state>/sandboxes/<id>/record.json`, written before anything of it exists. */

import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { SandboxId, SandboxSpec } from '#libs/domain'
import { syncPath } from '#libs/storage'

export interface SandboxRecord {
  sandboxId: SandboxId
  epoch: number
  tenant: string
  /** Null: a tombstone. A stop came for a sandbox that was never here, and a late create must start nothing. */
  spec: SandboxSpec | null
  /** Times in the journal count within this boot of the host; nothing of a sandbox survives it. */
  bootId: string
}

/** Survives a kill -9 when this returns; see `syncRecord`. */
export function writeRecord(dir: string, record: SandboxRecord): void {
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  const path = join(dir, 'record.json')
  writeFileSync(`${path}.new`, JSON.stringify(record), { mode: 0o600 })
  renameSync(`${path}.new`, path)
}

/** Resolves when the record survives a power cut: then its order may be acknowledged. */
export async function syncRecord(dir: string): Promise<void> {
  for (const path of [join(dir, 'record.json'), dir, dirname(dir)]) await syncPath(path)
}

/** The first file to go: a journal that is gone under a record would read as a life that has just begun. */
export async function removeRecord(dir: string): Promise<void> {
  await rm(join(dir, 'record.json'), { force: true })
  await syncPath(dir)
}

/** Null: nothing of the sandbox was made yet, or nothing of it is left to be told. */
export function readRecord(dir: string): SandboxRecord | null {
  try {
    return JSON.parse(readFileSync(join(dir, 'record.json'), 'utf8')) as SandboxRecord
  } catch (error) {
    // Half a record was left by a power cut before its order was acknowledged.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || error instanceof SyntaxError) return null
    throw error
  }
}
