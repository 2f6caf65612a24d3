/**
 * Images: read-only subvolumes. One appears under its id at once and whole, by a snapshot of a tree that was finished
 * in tmp/, so whatever lies in images/ can be used.
 */

import { type ImageId, isId, Rejected, type SandboxId, SandtrailError } from '#libs/domain'
import { createSubvolume, deleteSubvolume, isSubvolume, limitBytes, namesIn, snapshot } from './btrfs.js'
import type { Layout } from './layout.js'
import { UNPACK_LIMITS, type UnpackLimits, unpack } from './unpack.js'

export interface ImageSourceDigest {
  sha256: string
  bytes: number
}

export interface ImportLimits extends UnpackLimits {
  /** Of the unpacked tree, inodes included: the quota of the directory that it is unpacked into. */
  treeBytesMax: number
}

export const IMPORT_LIMITS: ImportLimits = { ...UNPACK_LIMITS, treeBytesMax: 64 * 1024 ** 3 }

export class Images {
  constructor(private readonly layout: Layout) {}

  has(imageId: ImageId): Promise<boolean> {
    return isSubvolume(this.layout.image(imageId))
  }

  async list(): Promise<ImageId[]> {
    return (await namesIn(this.layout.folder('images'))).filter((name) => isId('im', name))
  }

  /**
   * Unpacks an archive to an image; one that is there already is left as it is.
   *
   * @throws SandtrailError INVALID_ARGUMENT when digest or size are not the expected ones, and all of `unpack`.
   */
  async import(
    imageId: ImageId,
    archive: AsyncIterable<Uint8Array>,
    expected: ImageSourceDigest,
    limits: ImportLimits = IMPORT_LIMITS,
  ): Promise<void> {
    if (await this.has(imageId)) return
    const tree = this.layout.tmp(`import-${imageId}`)
    await deleteSubvolume(tree)
    await createSubvolume(tree)
    try {
      await limitBytes(tree, limits.treeBytesMax)
      const got = await unpack(archive, tree, expected.bytes, limits)
      if (got.sha256 !== expected.sha256 || got.bytes !== expected.bytes) {
        throw new SandtrailError(
          'INVALID_ARGUMENT',
          `the archive of ${imageId} is not the one that was announced`,
        )
      }
      await snapshot(tree, this.layout.image(imageId), 'read-only')
    } finally {
      await deleteSubvolume(tree)
    }
  }

  /** Keeps a sandbox's root as an image: writes finished before the call are in it. Done once per image id. */
  async fromRoot(sandboxId: SandboxId, imageId: ImageId): Promise<void> {
    if (await this.has(imageId)) return
    const root = this.layout.root(sandboxId)
    if (!(await isSubvolume(root)))
      throw new Rejected('SANDBOX_NOT_FOUND', `${sandboxId} has no root in this pool`)
    await snapshot(root, this.layout.image(imageId), 'read-only')
  }

  async remove(imageId: ImageId): Promise<void> {
    await deleteSubvolume(this.layout.image(imageId))
  }
}
