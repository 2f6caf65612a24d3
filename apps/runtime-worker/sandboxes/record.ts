/** What a sandbox was asked to be: `<state>/sandboxes/<id>/record.json`, on the disk before anything of it exists. */

import { readFileSync } from 'node:fs'
import { mkdir, open, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { SandboxId, SandboxSpec } from '#libs/domain'
import { writeDurably } from '../host/durable.js'

export interface SandboxRecord {
  sandboxId: SandboxId
  epoch: number
  tenant: string
  /** Null: a tombstone. A stop came for a sandbox that was never here, and a late create must start nothing. */
  spec: SandboxSpec | null
  /** Times in the journal count within this boot of the host; nothing of a sandbox survives it. */
  bootId: string
}

export async function writeRecord(dir: string, record: SandboxRecord): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 })
  await writeDurably(join(dir, 'record.json'), JSON.stringify(record))
  await syncDirectory(dirname(dir))
}

/** The first file to go: a journal that is gone under a record would read as a life that has just begun. */
export async function removeRecord(dir: string): Promise<void> {
  await rm(join(dir, 'record.json'), { force: true })
  await syncDirectory(dir)
}

/** Null: nothing of the sandbox was made yet, or nothing of it is left to be told. */
export function readRecord(dir: string): SandboxRecord | null {
  try {
    return JSON.parse(readFileSync(join(dir, 'record.json'), 'utf8')) as SandboxRecord
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
