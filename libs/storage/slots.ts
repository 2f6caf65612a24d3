/**
 * Copies of volumes in a sandbox's mount slots. The slots' directory is in the guest's reach: it may rename, delete
 * or replace by a symlink what lies there, at any time. So a slot is made elsewhere and moved in, remembered by its
 * subvolume's id and UUID, deleted by id, and a snapshot of it is believed only when its parent is that UUID.
 */

import { randomBytes } from 'node:crypto'
import { mkdir, rename } from 'node:fs/promises'
import { Rejected, type SandboxId, SandtrailError, type VolumeId } from '#libs/domain'
import {
  deleteSubvolume,
  deleteSubvolumeById,
  deleteTree,
  isSubvolume,
  limitBytes,
  referencedBytes,
  snapshot,
  subvolumeInfo,
} from './btrfs.js'
import type { Layout } from './layout.js'
import {
  readSlotRecord,
  readStagedRecord,
  removeRecord,
  type SlotRecord,
  stagedRecords,
  writeSlotRecord,
  writeStagedRecord,
} from './slot-records.js'
import { SLOTS_DIR_BYTES_MAX, type SpareSlots } from './spare-slots.js'
import type { CommitTrigger } from './volume-log.js'

export interface StageRequest {
  volumeId: VolumeId
  sandboxId: SandboxId
  slot: string
  commitId: string
  trigger: CommitTrigger
}

/** The directory that is exported, empty, to the sandbox. */
export async function makeSlotsDir(
  layout: Layout,
  spares: SpareSlots,
  sandboxId: SandboxId,
): Promise<string> {
  const dir = layout.slots(sandboxId)
  if (await isSubvolume(dir)) return dir
  await mkdir(layout.slotRecords(sandboxId), { recursive: true })
  await spares.place(dir)
  return dir
}

type NewSlot = Omit<SlotRecord, 'subvolume' | 'basis'>

/**
 * A copy of a version in a slot; `quotaBytes`: what the sandbox may add to a writable one. A read-only mount is
 * read-only here, on the host: whatever the guest remounts, it cannot write.
 */
export async function fillSlot(layout: Layout, slot: NewSlot, quotaBytes: number): Promise<string> {
  const path = layout.slot(slot.sandboxId, slot.slot)
  // Left by a crash before its record: then the sandbox has not started. The name of a reload's slot is new.
  await deleteSubvolume(path)
  if (slot.readOnly) await fillReadOnly(layout, slot, path)
  else await fillWritable(layout, slot, path, quotaBytes)
  return path
}

async function fillWritable(layout: Layout, slot: NewSlot, path: string, quotaBytes: number): Promise<void> {
  const version = layout.version(slot.volumeId, slot.base)
  const making = layout.tmp(`slot-${slot.sandboxId}-${randomBytes(6).toString('hex')}`)
  await snapshot(version, making, 'writable')
  try {
    const limited = referencedBytes(version).then((bytes) => limitBytes(making, bytes + quotaBytes))
    const [{ id, uuid }] = await Promise.all([subvolumeInfo(making), limited])
    await writeSlotRecord(layout, { ...slot, subvolume: { id, uuid }, basis: { version: slot.base } })
    await rename(making, path)
  } catch (error) {
    await deleteSubvolume(making).catch(() => {})
    throw error
  }
}

/** A read-only subvolume cannot be moved, so it is made in its place, and looked at there with suspicion. */
async function fillReadOnly(layout: Layout, slot: NewSlot, path: string): Promise<void> {
  const version = layout.version(slot.volumeId, slot.base)
  await snapshot(version, path, 'read-only')
  const [made, source] = await Promise.all([subvolumeInfo(path), subvolumeInfo(version)])
  if (made.name !== slot.slot || made.parentUuid !== source.uuid) {
    throw new SandtrailError(
      'INTERNAL',
      `the mount of ${slot.volumeId} was moved away within ${slot.sandboxId}`,
    )
  }
  const subvolume = { id: made.id, uuid: made.uuid }
  await writeSlotRecord(layout, { ...slot, subvolume, basis: { version: slot.base } })
}

/**
 * Keeps a slot's content, read-only, under the commit's id. Called under the slot's lock; `order` is the pool's next.
 *
 * @throws Rejected NOT_FOUND without such a slot, INVALID_ARGUMENT for a read-only one;
 *   SandtrailError INTERNAL when the guest has moved the slot away.
 */
export async function stageSlot(layout: Layout, request: StageRequest, order: number): Promise<void> {
  const { volumeId, sandboxId, slot, commitId, trigger } = request
  if (await readStagedRecord(layout, commitId)) return
  const record = await slotRecordOf(layout, request)
  if (record.readOnly)
    throw new Rejected('INVALID_ARGUMENT', `${volumeId} is mounted read-only, nothing to commit`)
  const copy = layout.staged(commitId)
  await deleteSubvolume(copy)
  await snapshot(layout.slot(sandboxId, slot), copy, 'read-only')
  const { parentUuid } = await subvolumeInfo(copy)
  if (parentUuid !== record.subvolume.uuid) {
    await deleteSubvolume(copy)
    throw new SandtrailError('INTERNAL', `the mount of ${volumeId} was moved away within ${sandboxId}`)
  }
  const { base, basis } = record
  await writeStagedRecord(layout, { commitId, volumeId, sandboxId, slot, base, basis, trigger, order })
}

/** @throws Rejected NOT_FOUND when the sandbox has no such slot, or it holds another volume. */
export async function slotRecordOf(
  layout: Layout,
  { volumeId, sandboxId, slot }: { volumeId: VolumeId; sandboxId: SandboxId; slot: string },
): Promise<SlotRecord> {
  const record = await readSlotRecord(layout, sandboxId, slot)
  if (record?.volumeId !== volumeId) {
    throw new Rejected('NOT_FOUND', `${volumeId} is not mounted at slot ${slot} of ${sandboxId}`)
  }
  return record
}

/** Deletes one slot of a live sandbox. */
export async function dropSlot(layout: Layout, sandboxId: SandboxId, slot: string): Promise<void> {
  const record = await readSlotRecord(layout, sandboxId, slot)
  if (record === null) return
  // A guest that filled the directory to its limit would otherwise keep its slots for ever: EDQUOT on the deletion.
  await limitBytes(layout.slots(sandboxId), null)
  try {
    await deleteSubvolumeById(layout.dir, record.subvolume.id)
  } catch (error) {
    // Asked for twice: the first time got as far as here.
    if (await isSubvolume(layout.slot(sandboxId, slot))) throw error
  } finally {
    await limitBytes(layout.slots(sandboxId), SLOTS_DIR_BYTES_MAX)
  }
  await removeRecord(layout.slotRecord(sandboxId, slot))
  await deleteUnusedCopies(layout, record)
}

/** Deletes all slots of a sandbox whose processes are gone. */
export async function removeSlots(
  layout: Layout,
  records: SlotRecord[],
  sandboxId: SandboxId,
): Promise<void> {
  if (await isSubvolume(layout.slots(sandboxId))) await limitBytes(layout.slots(sandboxId), null)
  await deleteTree(layout.slots(sandboxId))
  await deleteTree(layout.slotRecords(sandboxId))
  for (const record of records) await deleteUnusedCopies(layout, record)
}

/** A copy that was committed stays only while the slot's next changes are counted from it. */
export async function deleteUnusedCopies(
  layout: Layout,
  of: { sandboxId: SandboxId; slot: string; basis: SlotRecord['basis']; commitId?: string },
): Promise<void> {
  const record = await readSlotRecord(layout, of.sandboxId, of.slot)
  const staged = (await stagedRecords(layout)).filter(
    ({ sandboxId, slot }) => sandboxId === of.sandboxId && slot === of.slot,
  )
  const used = new Set(staged.map(({ commitId }) => commitId))
  for (const { basis } of record ? [record, ...staged] : staged) {
    if ('commitId' in basis) used.add(basis.commitId)
  }
  const candidates = [of.commitId, 'commitId' in of.basis ? of.basis.commitId : undefined]
  for (const commitId of candidates) {
    if (commitId !== undefined && !used.has(commitId)) await deleteSubvolume(layout.staged(commitId))
  }
}

/** A name that the guest cannot guess and so cannot have taken before. */
export function nextSlotName(slot: string): string {
  return `${slot.replace(/\.[0-9a-f]{16}$/, '')}.${randomBytes(8).toString('hex')}`
}
