/**
 * What each mounted copy of a volume was made from, and what is staged. Kept beside the slots, where no sandbox can
 * see it, and written durably.
 *
 * `base` is the version whose changes by others the writer has seen. `basis` is the tree that the writer's next
 * changes are counted from: at first the same version, after a merged commit the copy that was committed.
 */

import { rm } from 'node:fs/promises'
import { isId, type SandboxId, type VolumeId } from '#libs/domain'
import { namesIn } from './btrfs.js'
import { readIfThere, writeDurably } from './durable.js'
import type { Layout } from './layout.js'
import type { CommitTrigger } from './volume-log.js'

export type Basis = { version: number } | { commitId: string }

export interface SlotRecord {
  volumeId: VolumeId
  sandboxId: SandboxId
  slot: string
  readOnly: boolean
  /** The slot's subvolume. Its path lies in the sandbox's reach and proves nothing. */
  subvolume: { id: number; uuid: string }
  base: number
  basis: Basis
  /** The reload that made this slot, and the version that the slot before it had been based on. */
  reload?: { id: string; fromVersion: number }
}

export interface StagedRecord extends Omit<SlotRecord, 'readOnly' | 'subvolume' | 'reload'> {
  commitId: string
  trigger: CommitTrigger
  /** Counts up within the pool, so that staged copies are merged in the order in which they were made. */
  order: number
  /** Set when the content can never be merged; it stays on disk for the operator. */
  parked?: { code: string; message: string }
}

export async function readSlotRecord(
  layout: Layout,
  sandboxId: SandboxId,
  slot: string,
): Promise<SlotRecord | null> {
  const text = await readIfThere(layout.slotRecord(sandboxId, slot))
  return text === null ? null : (JSON.parse(text) as SlotRecord)
}

export async function writeSlotRecord(layout: Layout, record: SlotRecord): Promise<void> {
  await writeDurably(layout.slotRecord(record.sandboxId, record.slot), JSON.stringify(record))
}

/** The records of one sandbox, or of all. */
export async function slotRecords(layout: Layout, sandboxId?: SandboxId): Promise<SlotRecord[]> {
  const sandboxes = sandboxId ? [sandboxId] : await namesIn(layout.folder('slot-records'))
  const records: SlotRecord[] = []
  for (const id of sandboxes) {
    if (!isId('sb', id)) continue
    for (const name of await namesIn(layout.slotRecords(id))) {
      if (!name.endsWith('.json')) continue
      const record = await readSlotRecord(layout, id, name.slice(0, -'.json'.length))
      if (record) records.push(record)
    }
  }
  return records
}

export async function readStagedRecord(layout: Layout, commitId: string): Promise<StagedRecord | null> {
  const text = await readIfThere(layout.stagedRecord(commitId))
  return text === null ? null : (JSON.parse(text) as StagedRecord)
}

export async function writeStagedRecord(layout: Layout, record: StagedRecord): Promise<void> {
  await writeDurably(layout.stagedRecord(record.commitId), JSON.stringify(record))
}

/** Everything staged and not yet committed, oldest first. */
export async function stagedRecords(layout: Layout): Promise<StagedRecord[]> {
  const records: StagedRecord[] = []
  for (const name of await namesIn(layout.folder('staged'))) {
    if (!name.endsWith('.json')) continue
    const record = await readStagedRecord(layout, name.slice(0, -'.json'.length))
    if (record) records.push(record)
  }
  return records.sort((a, b) => a.order - b.order)
}

export async function removeRecord(path: string): Promise<void> {
  await rm(path, { force: true })
}
