/**
 * Where things lie in a pool. Every name is an id that the service made and that is checked here again, so no
 * client's string ever becomes a path.
 *
 *   images/<imageId>                  read-only subvolume
 *   roots/<sandboxId>                 writable snapshot of an image, with a quota
 *   spare/<imageId>.<n>               roots made ahead of need
 *   spare-slots/<n>                   mount-slot directories made ahead of need; emptied when the pool is opened
 *   slots/<sandboxId>/<slot>          exported to the sandbox: snapshots of volumes
 *   slot-records/<sandboxId>/<slot>.json   what a slot was made from; the sandbox never sees it
 *   volumes/<volumeId>/log.jsonl, v<N>, v<N>.changes
 *   staged/<commitId>, staged/<commitId>.json
 *   tmp/                              half-made things; emptied when the pool is opened
 */

import { type ImageId, isId, type SandboxId, SandtrailError, type VolumeId } from '#libs/domain'
import { inside } from './btrfs.js'

const SLOT = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/
// A copy's record is its name and `.json`, so no copy may be called so itself.
const COMMIT_ID = /^(?!.*\.json$)[A-Za-z0-9][A-Za-z0-9._:-]{0,199}$/

/** Made when a pool is opened for the first time. */
export const FOLDERS = [
  'images',
  'roots',
  'spare',
  'spare-slots',
  'slots',
  'slot-records',
  'volumes',
  'staged',
  'tmp',
] as const

export class Layout {
  constructor(readonly dir: string) {}

  folder(name: (typeof FOLDERS)[number]): string {
    return inside(this.dir, name)
  }
  image(id: ImageId): string {
    return inside(this.folder('images'), checked('im', id))
  }
  root(id: SandboxId): string {
    return inside(this.folder('roots'), checked('sb', id))
  }
  slots(id: SandboxId): string {
    return inside(this.folder('slots'), checked('sb', id))
  }
  slot(id: SandboxId, slot: string): string {
    return inside(this.slots(id), checkedSlot(slot))
  }
  slotRecords(id: SandboxId): string {
    return inside(this.folder('slot-records'), checked('sb', id))
  }
  slotRecord(id: SandboxId, slot: string): string {
    return inside(this.slotRecords(id), `${checkedSlot(slot)}.json`)
  }
  volume(id: VolumeId): string {
    return inside(this.folder('volumes'), checked('vo', id))
  }
  volumeLog(id: VolumeId): string {
    return inside(this.volume(id), 'log.jsonl')
  }
  version(id: VolumeId, version: number): string {
    return inside(this.volume(id), `v${version}`)
  }
  /** The paths that a version changed, NUL after each. */
  changes(id: VolumeId, version: number): string {
    return inside(this.volume(id), `v${version}.changes`)
  }
  staged(commitId: string): string {
    if (!COMMIT_ID.test(commitId)) throw new SandtrailError('INVALID_ARGUMENT', 'not a commit id')
    return inside(this.folder('staged'), commitId)
  }
  stagedRecord(commitId: string): string {
    return `${this.staged(commitId)}.json`
  }
  tmp(name: string): string {
    return inside(this.folder('tmp'), name)
  }
}

function checked(prefix: string, id: string): string {
  if (!isId(prefix, id)) throw new SandtrailError('INVALID_ARGUMENT', `not an id of kind ${prefix}`)
  return id
}

function checkedSlot(slot: string): string {
  if (!SLOT.test(slot)) throw new SandtrailError('INVALID_ARGUMENT', 'not the name of a mount slot')
  return slot
}
