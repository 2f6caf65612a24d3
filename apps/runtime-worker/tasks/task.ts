/** Tasks come from snapshotter and volume-syncer; their shape is checked all the same. */

import { z } from 'zod'
import { parseBody, sha256, type Task } from '#libs/contract'
import { type ImageId, isId, type SandboxId, type VolumeId } from '#libs/domain'

const tenant = z.string().min(1)
const sandboxId = z.custom<SandboxId>((value) => isId('sb', value), 'must be a sandbox id')
const imageId = z.custom<ImageId>((value) => isId('im', value), 'must be an image id')
const volumeId = z.custom<VolumeId>((value) => isId('vo', value), 'must be a volume id')
const epoch = z.int().min(1)

const task = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('snapshot'), tenant, sandboxId, epoch, imageId }),
  z.object({
    kind: z.literal('import-image'),
    tenant,
    imageId,
    url: z.url({ protocol: /^https?$/ }),
    sha256,
    bytes: z.int().min(0),
  }),
  z.object({ kind: z.literal('remove-image'), tenant, imageId }),
  z.object({
    kind: z.literal('commit-volume'),
    tenant,
    volumeId,
    commitId: z.string().min(1).max(200),
    sandboxId: sandboxId.nullable(),
    afterVersion: z.int().min(0),
  }),
  z.object({
    kind: z.literal('reload-volume'),
    tenant,
    volumeId,
    sandboxId,
    epoch,
    reloadId: z.string().min(1).max(200),
  }),
  z.object({ kind: z.literal('remove-volume'), tenant, volumeId }),
  z.object({ kind: z.literal('prune'), dryRun: z.boolean() }),
])

/** @throws Rejected INVALID_ARGUMENT */
export const parseTask = (body: unknown): Task => parseBody(task, body)

/** What a task works on: two runs of one key never go on at once, and a re-send joins the run in flight. */
export function keyOf(task: Task): string {
  switch (task.kind) {
    case 'snapshot':
    case 'import-image':
    case 'remove-image':
      return `${task.kind} ${task.imageId}`
    case 'commit-volume':
      return `${task.kind} ${task.volumeId} ${task.commitId} ${task.afterVersion}`
    case 'reload-volume':
      return `${task.kind} ${task.volumeId} ${task.reloadId}`
    case 'remove-volume':
      return `${task.kind} ${task.volumeId}`
    case 'prune':
      return `${task.kind} ${task.dryRun}`
  }
}
