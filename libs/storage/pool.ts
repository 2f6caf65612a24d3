/**
 * One worker's pool: a mounted btrfs filesystem with quotas on, that nobody else touches. Images, roots of sandboxes,
 * versions of volumes and what is staged for them (docs/storage.md). Host side only: no broker, no database.
 */

import { mkdir, statfs } from 'node:fs/promises'
import { type ImageId, isId, type SandboxId, SandtrailError, type VolumeId } from '#libs/domain'
import { clearStaleQuotas, deleteTree, inside, namesIn } from './btrfs.js'
import { type ImageSourceDigest, Images, type ImportLimits } from './images.js'
import { FOLDERS, Layout } from './layout.js'
import { Roots } from './roots.js'
import type { StageRequest } from './slots.js'
import { runTool } from './tool.js'
import type { LoggedVersion } from './volume-log.js'
import { type MountRequest, type Reloaded, type ReloadRequest, Volumes } from './volumes.js'

export interface PoolOptions {
  /** What a sandbox may add to a mounted volume; the same as a root's default. */
  slotQuotaBytes?: number
}

const SLOT_QUOTA_BYTES_DEFAULT = 512 * 1024 ** 3
const BTRFS_MAGIC = 0x9123683e

export class Pool {
  /** Made in this process's life: a sweep that was begun with an older list must not take them for strays. */
  private readonly young = new Set<SandboxId>()

  private constructor(
    readonly dir: string,
    private readonly layout: Layout,
    private readonly roots: Roots,
    private readonly images: Images,
    private readonly volumes: Volumes,
  ) {}

  /**
   * Opens the pool at `dir`: makes its folders, empties tmp/, ends commits that a crash interrupted.
   *
   * @throws SandtrailError INVALID_ARGUMENT when `dir` is not a btrfs filesystem with quotas on.
   */
  static async open(dir: string, options: PoolOptions = {}): Promise<Pool> {
    await checkFilesystem(dir)
    const layout = new Layout(dir)
    for (const folder of FOLDERS) await mkdir(layout.folder(folder), { recursive: true, mode: 0o700 })
    for (const folder of ['tmp', 'spare-slots'] as const) {
      for (const name of await namesIn(layout.folder(folder)))
        await deleteTree(inside(layout.folder(folder), name))
    }
    const roots = new Roots(layout)
    await roots.open()
    const volumes = new Volumes(layout, options.slotQuotaBytes ?? SLOT_QUOTA_BYTES_DEFAULT)
    await volumes.open()
    return new Pool(dir, layout, roots, new Images(layout), volumes)
  }

  /** Waits for work of its own in the background; nothing may be asked of the pool after it. */
  async close(): Promise<void> {
    await Promise.all([this.roots.close(), this.volumes.close()])
  }

  async freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(this.dir)
    return bavail * bsize
  }

  hasImage(imageId: ImageId): Promise<boolean> {
    return this.images.has(imageId)
  }

  listImages(): Promise<ImageId[]> {
    return this.images.list()
  }

  /** See `Images.import`. Spares of the new image are made before it resolves. */
  async importImage(
    imageId: ImageId,
    archive: AsyncIterable<Uint8Array>,
    expected: ImageSourceDigest,
    limits?: ImportLimits,
  ): Promise<void> {
    await this.images.import(imageId, archive, expected, limits)
    await this.roots.prepare(imageId)
  }

  /** A filesystem snapshot of a root, as an image. Done once per image id. */
  snapshotRoot(sandboxId: SandboxId, imageId: ImageId): Promise<void> {
    return this.images.fromRoot(sandboxId, imageId)
  }

  /** Roots made from it live on: they share its data. */
  async removeImage(imageId: ImageId): Promise<void> {
    await this.roots.forget(imageId)
    await this.images.remove(imageId)
  }

  /** See `Roots.create`. Resolves with the root's absolute path. */
  createRoot(imageId: ImageId, sandboxId: SandboxId, quotaBytes: number): Promise<string> {
    this.young.add(sandboxId)
    return this.roots.create(imageId, sandboxId, quotaBytes)
  }

  /** Makes the spare roots of an image now, ahead of its first use. */
  prepareRoots(imageId: ImageId): Promise<void> {
    return this.roots.prepare(imageId)
  }

  rootPath(sandboxId: SandboxId): string {
    return this.layout.root(sandboxId)
  }

  deleteRoot(sandboxId: SandboxId): Promise<void> {
    this.young.delete(sandboxId)
    return this.roots.delete(sandboxId)
  }

  listRoots(): Promise<SandboxId[]> {
    return this.roots.list()
  }

  /** The directory of mount slots to export to the sandbox; made when it is not there. Its path. */
  slotsDir(sandboxId: SandboxId): Promise<string> {
    this.young.add(sandboxId)
    return this.volumes.slotsDir(sandboxId)
  }

  /** Only when no process of the sandbox is left. */
  removeSlots(sandboxId: SandboxId): Promise<void> {
    return this.volumes.removeSlots(sandboxId)
  }

  mountVolume(request: MountRequest): Promise<{ version: number; path: string }> {
    return this.volumes.mount(request)
  }

  stageVolume(request: StageRequest): Promise<void> {
    return this.volumes.stage(request)
  }

  isStaged(volumeId: VolumeId, commitId: string): Promise<boolean> {
    return this.volumes.isStaged(volumeId, commitId)
  }

  /** See `Volumes.commit`. */
  commitStaged(volumeId: VolumeId, commitId: string): Promise<LoggedVersion | null> {
    return this.volumes.commit(volumeId, commitId)
  }

  /** The caller binds the new slot, then drops the old one. Changes not committed are lost, as Modal's are. */
  reloadVolume(request: ReloadRequest): Promise<Reloaded> {
    return this.volumes.reload(request)
  }

  dropSlot(sandboxId: SandboxId, slot: string): Promise<void> {
    return this.volumes.drop(sandboxId, slot)
  }

  volumeLog(volumeId: VolumeId, afterVersion: number): Promise<LoggedVersion[]> {
    return this.volumes.versionsAfter(volumeId, afterVersion)
  }

  removeVolume(volumeId: VolumeId): Promise<void> {
    return this.volumes.remove(volumeId)
  }

  /**
   * Removes what a former process left and belongs to no sandbox of `sandboxes`. What is staged and every version stay:
   * only `commitStaged` and `removeVolume` end them.
   */
  async sweep(known: { sandboxes: ReadonlySet<SandboxId> }): Promise<void> {
    const isStray = (id: SandboxId) => !known.sandboxes.has(id) && !this.young.has(id)
    for (const sandboxId of await this.listRoots()) {
      if (isStray(sandboxId)) await this.deleteRoot(sandboxId)
    }
    const slots = [
      ...(await namesIn(this.layout.folder('slots'))),
      ...(await namesIn(this.layout.folder('slot-records'))),
    ]
    for (const sandboxId of slots) {
      if (isId('sb', sandboxId) && isStray(sandboxId)) await this.removeSlots(sandboxId)
    }
    await clearStaleQuotas(this.dir)
  }
}

async function checkFilesystem(dir: string): Promise<void> {
  const found = await statfs(dir).catch(() => null)
  if (found?.type !== BTRFS_MAGIC) {
    throw new SandtrailError('INVALID_ARGUMENT', `${dir} is not a btrfs filesystem`, {
      hint: 'mount one there; `make up` makes a loop file',
    })
  }
  await runTool('btrfs', ['qgroup', 'show', dir]).catch((cause: unknown) => {
    throw new SandtrailError('INVALID_ARGUMENT', `${dir} has no quotas`, {
      hint: 'run `btrfs quota enable` on it',
      cause,
    })
  })
}
