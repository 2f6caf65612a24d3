/**
 * Versions of volumes in one pool. Each commit is staged (a read-only copy and its record), then put after the newest
 * version under the volume's lock:
 *
 *   staged copy + record  ->  v<N> and v<N>.changes whole on disk  ->  a line in log.jsonl  ->  the record goes
 *
 * The line is the commit: what lies there without one is redone, and what has one is only tidied up, so a crash at
 * any point loses nothing and doubles nothing.
 */

import { chmod, mkdir, readFile } from 'node:fs/promises'
import { Rejected, type SandboxId, SandtrailError, type VolumeId } from '#libs/domain'
import { createSubvolume, deleteSubvolume, deleteTree, isSubvolume, namesIn, snapshot } from './btrfs.js'
import { writeNames } from './durable.js'
import type { Layout } from './layout.js'
import { KeyedLock } from './lock.js'
import { mergeOnto } from './merge.js'
import {
  readSlotRecord,
  readStagedRecord,
  removeRecord,
  type SlotRecord,
  type StagedRecord,
  slotRecords,
  stagedRecords,
  writeSlotRecord,
  writeStagedRecord,
} from './slot-records.js'
import {
  deleteUnusedCopies,
  dropSlot,
  fillSlot,
  makeSlotsDir,
  nextSlotName,
  removeSlots,
  type StageRequest,
  slotRecordOf,
  stageSlot,
} from './slots.js'
import { SpareSlots } from './spare-slots.js'
import { type Change, diffTrees } from './tree-diff.js'
import { appendToVolumeLog, type LoggedVersion, type LogLine, readVolumeLog } from './volume-log.js'

export interface MountRequest {
  volumeId: VolumeId
  sandboxId: SandboxId
  slot: string
  readOnly: boolean
  /** null: the newest. A fixed version is read-only. */
  version: number | null
}

export interface ReloadRequest {
  volumeId: VolumeId
  sandboxId: SandboxId
  /** Where the volume is now. */
  slot: string
  reloadId: string
}

export interface Reloaded {
  fromVersion: number
  toVersion: number
  newSlot: string
  path: string
}

interface MadeVersion {
  changedPaths: number
  overwritten: string[]
}

/** An event lists so many overwritten paths, and so many bytes of them; the count says how many there are. */
const OVERWRITTEN_MAX = 10_000
const OVERWRITTEN_BYTES_MAX = 256 * 1024

export class Volumes {
  readonly #locks = new KeyedLock()
  readonly #spareSlots: SpareSlots
  #order = 0

  constructor(
    private readonly layout: Layout,
    private readonly slotQuotaBytes: number,
  ) {
    this.#spareSlots = new SpareSlots(layout)
  }

  /** Ends what a crash interrupted. */
  async open(): Promise<void> {
    for (const record of await stagedRecords(this.layout)) {
      this.#order = Math.max(this.#order, record.order)
      const done = (await this.#log(record.volumeId)).find(({ commitId }) => commitId === record.commitId)
      if (done) await this.#settle(record, done)
    }
    // Only now, while nothing is being staged.
    await this.#deleteStrayCopies()
    this.#spareSlots.fill(0)
  }

  /** Waits for work of its own in the background. */
  close(): Promise<void> {
    return this.#spareSlots.close()
  }

  slotsDir(sandboxId: SandboxId): Promise<string> {
    return makeSlotsDir(this.layout, this.#spareSlots, sandboxId)
  }

  /**
   * Puts a version into a slot, after merging what is staged for the volume. A volume that this pool does not know is
   * empty: version 0. Asked for again, it answers what is there.
   *
   * @throws Rejected NOT_FOUND for a version that is not there, INVALID_ARGUMENT for a writable fixed version.
   */
  async mount({
    volumeId,
    sandboxId,
    slot,
    readOnly,
    version,
  }: MountRequest): Promise<{ version: number; path: string }> {
    if (version !== null && !readOnly) {
      throw new Rejected('INVALID_ARGUMENT', 'a fixed version of a volume can only be mounted read-only')
    }
    return this.#locks.run(volumeId, async () => {
      const path = this.layout.slot(sandboxId, slot)
      const known = await readSlotRecord(this.layout, sandboxId, slot)
      if (known?.volumeId === volumeId && (await isSubvolume(path))) return { version: known.base, path }
      const head = await this.#mergeStaged(volumeId)
      const base = version ?? head
      if (!(await isSubvolume(this.layout.version(volumeId, base)))) {
        throw new Rejected('NOT_FOUND', `${volumeId} has no version ${base}; the newest is ${head}`)
      }
      await makeSlotsDir(this.layout, this.#spareSlots, sandboxId)
      await fillSlot(this.layout, { volumeId, sandboxId, slot, readOnly, base }, this.slotQuotaBytes)
      return { version: base, path }
    })
  }

  /** See `stageSlot`. A commit that is in the log already is not staged again. */
  async stage(request: StageRequest): Promise<void> {
    const { volumeId, sandboxId, slot, commitId } = request
    await this.#locks.run(`${sandboxId}/${slot}`, async () => {
      if ((await this.#log(volumeId)).some((line) => line.commitId === commitId)) return
      this.#order += 1
      await stageSlot(this.layout, request, this.#order)
    })
  }

  /** True while something waits for `commit` under this id. */
  async isStaged(volumeId: VolumeId, commitId: string): Promise<boolean> {
    return (await readStagedRecord(this.layout, commitId))?.volumeId === volumeId
  }

  /**
   * Makes the next version of what is staged under `commitId`; done once, answered alike ever after. Resolves with null
   * when the end of a sandbox left a tree that nobody has touched: that makes no version.
   *
   * @throws SandtrailError NOT_FOUND when nothing is staged under the id; INVALID_ARGUMENT, for good, for content
   *   that cannot be merged (paths longer than the system takes): the copy stays in the pool.
   */
  commit(volumeId: VolumeId, commitId: string): Promise<LoggedVersion | null> {
    return this.#locks.run(volumeId, () => this.#commit(volumeId, commitId))
  }

  /**
   * A new copy of the newest version in a new slot; what was not committed in the old one is not in it. Sent again
   * with the same id, it answers what it made the first time.
   */
  async reload(request: ReloadRequest): Promise<Reloaded> {
    const { volumeId, sandboxId, slot, reloadId } = request
    return this.#locks.run(volumeId, async () => {
      for (const known of await slotRecords(this.layout, sandboxId)) {
        if (known.reload?.id === reloadId && known.volumeId === volumeId) return reloaded(this.layout, known)
      }
      const { base: fromVersion, readOnly } = await slotRecordOf(this.layout, request)
      const base = await this.#mergeStaged(volumeId)
      const reload = { id: reloadId, fromVersion }
      const filled = { volumeId, sandboxId, slot: nextSlotName(slot), readOnly, base, reload }
      await fillSlot(this.layout, filled, this.slotQuotaBytes)
      return reloaded(this.layout, filled)
    })
  }

  drop(sandboxId: SandboxId, slot: string): Promise<void> {
    return this.#locks.run(`${sandboxId}/${slot}`, () => dropSlot(this.layout, sandboxId, slot))
  }

  /** Under the locks of all its slots: a mount elsewhere may be merging what was staged in one, and note it there. */
  async removeSlots(sandboxId: SandboxId): Promise<void> {
    const slots = (await slotRecords(this.layout, sandboxId)).map(({ slot }) => slot).sort()
    const remove = async () => removeSlots(this.layout, await slotRecords(this.layout, sandboxId), sandboxId)
    const locked = slots.reduce((work, slot) => () => this.#locks.run(`${sandboxId}/${slot}`, work), remove)
    await locked()
  }

  async versionsAfter(volumeId: VolumeId, afterVersion: number): Promise<LoggedVersion[]> {
    return (await this.#log(volumeId)).filter(({ version }) => version > afterVersion).map(publicPart)
  }

  /** Everything of a volume that no sandbox mounts any more. */
  async remove(volumeId: VolumeId): Promise<void> {
    await this.#locks.run(volumeId, async () => {
      for (const record of await stagedRecords(this.layout)) {
        if (record.volumeId !== volumeId) continue
        await removeRecord(this.layout.stagedRecord(record.commitId))
        await deleteUnusedCopies(this.layout, record)
      }
      await deleteTree(this.layout.volume(volumeId))
    })
  }

  #log(volumeId: VolumeId): Promise<LogLine[]> {
    return readVolumeLog(this.layout.volumeLog(volumeId))
  }

  /** Resolves with the newest version. Content that cannot be merged stops no mount. */
  async #mergeStaged(volumeId: VolumeId): Promise<number> {
    await this.#ensureVolume(volumeId)
    for (const record of await stagedRecords(this.layout)) {
      if (record.volumeId === volumeId && !record.parked) {
        await this.#commit(volumeId, record.commitId).catch(unlessRetryable)
      }
    }
    return headOf(await this.#log(volumeId))
  }

  async #ensureVolume(volumeId: VolumeId): Promise<void> {
    const empty = this.layout.version(volumeId, 0)
    if (await isSubvolume(empty)) return
    await mkdir(this.layout.volume(volumeId), { recursive: true })
    const making = this.layout.tmp(`empty-${volumeId}`)
    await deleteSubvolume(making)
    await createSubvolume(making)
    await chmod(making, 0o755)
    await snapshot(making, empty, 'read-only')
    await deleteSubvolume(making)
  }

  async #commit(volumeId: VolumeId, commitId: string): Promise<LoggedVersion | null> {
    const log = await this.#log(volumeId)
    const record = await readStagedRecord(this.layout, commitId)
    const done = log.find((line) => line.commitId === commitId)
    if (done) {
      if (record) await this.#settle(record, done)
      return publicPart(done)
    }
    if (record?.volumeId !== volumeId) {
      throw new SandtrailError('NOT_FOUND', `nothing is staged for ${volumeId} under this commit`)
    }
    if (record.parked) throw new SandtrailError('INVALID_ARGUMENT', record.parked.message)
    await this.#ensureVolume(volumeId)
    const line = await this.#makeVersion(record, log).catch((error) => this.#parkOrThrow(record, error))
    if (line === null) {
      await removeRecord(this.layout.stagedRecord(commitId))
      await deleteUnusedCopies(this.layout, record)
      return null
    }
    await appendToVolumeLog(this.layout.volumeLog(volumeId), line)
    await this.#settle(record, line)
    return publicPart(line)
  }

  async #makeVersion(record: StagedRecord, log: LogLine[]): Promise<LogLine | null> {
    const { volumeId, commitId, sandboxId, slot, base, basis, trigger } = record
    const version = headOf(log) + 1
    // A crash may have left it, finished or not, without a line in the log.
    await deleteSubvolume(this.layout.version(volumeId, version))
    const asIs = 'version' in basis && basis.version === version - 1
    const made = asIs ? await this.#takeAsIs(record, version) : await this.#merge(record, version, log)
    if (made === null) return null
    const { changedPaths, overwritten } = made
    const listed = capped(overwritten)
    const counts = { changedPaths, overwritten: listed, overwrittenTotal: overwritten.length }
    return { version, commitId, sandboxId, base, ...counts, trigger, slot, asIs }
  }

  /** Nobody else committed: the copy is the version, whatever its size. The walk only counts and lists. */
  async #takeAsIs(record: StagedRecord, version: number): Promise<MadeVersion | null> {
    const { volumeId, commitId, trigger } = record
    let touched = false
    const changed = async function* (changes: AsyncIterable<Change>) {
      for await (const change of changes) {
        touched = true
        if (!change.touched) yield change
      }
    }
    const changedPaths = await writeNames(
      this.layout.changes(volumeId, version),
      changed(this.#changesOf(record)),
    )
    if (!touched && trigger === 'sandbox-end') return null
    await snapshot(this.layout.staged(commitId), this.layout.version(volumeId, version), 'read-only')
    return { changedPaths, overwritten: [] }
  }

  async #merge(record: StagedRecord, version: number, log: LogLine[]): Promise<MadeVersion | null> {
    const { volumeId, commitId, trigger } = record
    const changes: Change[] = []
    for await (const change of this.#changesOf(record)) if (!change.touched) changes.push(change)
    if (changes.length === 0 && trigger === 'sandbox-end') return null
    const target = this.layout.tmp(`merge-${commitId}`)
    await deleteSubvolume(target)
    await snapshot(this.layout.version(volumeId, version - 1), target, 'writable')
    try {
      const changedByOthers = await this.#changedByOthers(record, log)
      const staged = this.layout.staged(commitId)
      const overwritten = await mergeOnto({ staged, target, changes, changedByOthers })
      await writeNames(this.layout.changes(volumeId, version), changes)
      await snapshot(target, this.layout.version(volumeId, version), 'read-only')
      return { changedPaths: changes.length, overwritten }
    } finally {
      await deleteSubvolume(target)
    }
  }

  #changesOf(record: StagedRecord) {
    return diffTrees(this.#treeOf(record), this.layout.staged(record.commitId), this.layout.folder('tmp'))
  }

  #treeOf({ volumeId, basis }: StagedRecord): string {
    return 'version' in basis
      ? this.layout.version(volumeId, basis.version)
      : this.layout.staged(basis.commitId)
  }

  /** Everything that versions after the writer's base changed and that did not come from this very slot. */
  async #changedByOthers(record: StagedRecord, log: LogLine[]): Promise<Set<string>> {
    const paths = new Set<string>()
    for (const line of log) {
      if (line.version <= record.base) continue
      if (line.sandboxId === record.sandboxId && line.slot === record.slot) continue
      const list = await readFile(this.layout.changes(record.volumeId, line.version), 'latin1')
      for (const path of list.split('\0').slice(0, -1)) paths.add(path)
    }
    return paths
  }

  /** Copies that belong to nothing: a crash came between copy and record. */
  async #deleteStrayCopies(): Promise<void> {
    const records = [...(await slotRecords(this.layout)), ...(await stagedRecords(this.layout))]
    const used = new Set<string>()
    for (const record of records) {
      if ('commitId' in record) used.add(record.commitId)
      if ('commitId' in record.basis) used.add(record.basis.commitId)
    }
    for (const name of await namesIn(this.layout.folder('staged'))) {
      if (!name.includes('.json') && !used.has(name)) await deleteSubvolume(this.layout.staged(name))
    }
  }

  /** The writer's next changes are counted from what it has committed now. Safe to run again. */
  async #settle(record: StagedRecord, line: LogLine): Promise<void> {
    const { sandboxId, slot, commitId } = record
    const next: Pick<SlotRecord, 'base' | 'basis'> = line.asIs
      ? { base: line.version, basis: { version: line.version } }
      : { base: record.base, basis: { commitId } }
    await this.#locks.run(`${sandboxId}/${slot}`, async () => {
      const live = await readSlotRecord(this.layout, sandboxId, slot)
      if (live && sameBasis(live, record)) await writeSlotRecord(this.layout, { ...live, ...next })
      for (const later of await stagedRecords(this.layout)) {
        if (later.commitId === commitId || later.sandboxId !== sandboxId || later.slot !== slot) continue
        if (sameBasis(later, record)) await writeStagedRecord(this.layout, { ...later, ...next })
      }
      await removeRecord(this.layout.stagedRecord(commitId))
      await deleteUnusedCopies(this.layout, record)
    })
  }

  async #parkOrThrow(record: StagedRecord, error: unknown): Promise<never> {
    const failure = asStorageError(error)
    if (failure.code === 'INVALID_ARGUMENT') {
      const message = `the content of commit ${record.commitId} cannot be merged: a path is too long`
      await writeStagedRecord(this.layout, { ...record, parked: { code: failure.code, message } })
      throw new SandtrailError('INVALID_ARGUMENT', message, { cause: failure })
    }
    throw failure
  }
}

function headOf(log: LogLine[]): number {
  return log.at(-1)?.version ?? 0
}

function reloaded(
  layout: Layout,
  { sandboxId, slot, base, reload }: Omit<SlotRecord, 'subvolume' | 'basis'>,
): Reloaded {
  return {
    fromVersion: reload?.fromVersion ?? base,
    toVersion: base,
    newSlot: slot,
    path: layout.slot(sandboxId, slot),
  }
}

function publicPart({ slot: _slot, asIs: _asIs, ...version }: LogLine): LoggedVersion {
  return version
}

function sameBasis(a: Pick<SlotRecord, 'basis'>, b: Pick<SlotRecord, 'basis'>): boolean {
  return JSON.stringify(a.basis) === JSON.stringify(b.basis)
}

/** Paths as text: bytes that are no UTF-8 are shown as U+FFFD. */
function capped(paths: string[]): string[] {
  const listed: string[] = []
  let bytes = 0
  for (const path of paths) {
    bytes += path.length
    if (listed.length === OVERWRITTEN_MAX || bytes > OVERWRITTEN_BYTES_MAX) break
    listed.push(Buffer.from(path, 'latin1').toString('utf8'))
  }
  return listed
}

function unlessRetryable(error: unknown): void {
  if (error instanceof SandtrailError && error.code === 'INVALID_ARGUMENT') return
  throw error
}

/** System call errors of the merge, in our words. */
function asStorageError(error: unknown): SandtrailError {
  if (error instanceof SandtrailError) return error
  const { code } = error as NodeJS.ErrnoException
  if (code === 'ENAMETOOLONG')
    return new SandtrailError('INVALID_ARGUMENT', 'a path is too long', { cause: error })
  if (code === 'ENOSPC') return new SandtrailError('NO_SPACE', 'the pool is full', { cause: error })
  return new SandtrailError('INTERNAL', 'the volume could not be merged', { cause: error })
}
