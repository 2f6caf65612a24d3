/** Images: an upload that ends as a read-only subvolume in every pool, and what is known of one. */

import type { Readable } from 'node:stream'
import type { Accepted } from '#libs/contract'
import {
  fromErrorBody,
  IMAGE_IMPORT_DEADLINE_MS,
  type Image,
  type ImageEvent,
  type ImageSource,
  imageAggregate,
  imageScopes,
  isId,
  PLATFORM_TENANT,
  Rejected,
  SandtrailError,
} from '#libs/domain'
import {
  findClaim,
  hasUploaded,
  noteUpload,
  type Queryable,
  type RecordedEvent,
  readStream,
  upcast,
} from '#libs/event-store'
import { IMPORT_LIMITS } from '#libs/storage'
import { type Origin, sendCommand } from './commands.js'
import type { Gateway } from './gateway.js'

export interface ImageView {
  imageId: string
  name: string | null
  state: Image['status']
  source: ImageSource
  /** `sha256:` of the imported tarball; null for one that was made by a snapshot. */
  digest: string | null
  /** It is the platform's: every tenant may start from it, only operators import and remove it. */
  shared: boolean
  /** Workers in whose pools it lies. */
  replicas: string[]
  createdAt: string
  /** Why an import failed. */
  error: { code: string; message: string } | null
}

/** Keeps the tarball in the blob store, for this tenant to import; no more than a pool takes. Nothing else happens until it does. */
export async function uploadBlob(
  { db, blobs }: Gateway,
  tenant: string,
  body: Readable,
): Promise<{ sha256: string; bytes: number }> {
  const blob = await blobs.put(body, { bytesMax: IMPORT_LIMITS.archiveBytesMax })
  await noteUpload(db, tenant, blob.sha256)
  return blob
}

/**
 * Imports a tarball that is in the blob store, and resolves when sandboxes can start from it.
 *
 * @throws the code with which the import failed
 * @throws SandtrailError DEADLINE_EXCEEDED when its end was not seen in time; it may still come
 */
export async function importImage(
  { db, messaging, waiter, blobs }: Gateway,
  origin: Origin,
  body: { name: string; sha256: string },
  signal: AbortSignal,
): Promise<Accepted & ImageView> {
  // What another tenant has uploaded looks like what nobody has. The snapshotter, which decides, looks again.
  if (!(await hasUploaded(db, origin.tenant, body.sha256)) || !(await blobs.has(body.sha256))) {
    throw new Rejected('NOT_FOUND', 'no blob has this digest', {
      hint: 'upload the tarball as the body instead',
    })
  }
  await blobs.touch(body.sha256)
  const { accepted } = await sendCommand(messaging, origin, 'image.import', body)
  const imageId = accepted.imageId ?? accepted.stream
  const ends = ['ImageReady', 'ImageFailed', 'ImageRemoved']
  await waiter.until(imageId, ends, { timeoutMs: IMAGE_IMPORT_DEADLINE_MS, signal })
  const view = await readImage(db, origin.tenant, imageId)
  if (view.error !== null) {
    throw fromErrorBody({
      code: view.error.code as never,
      message: view.error.message,
      hint: `\`sandtrail history ${imageId}\` keeps what went wrong`,
      retryable: false,
    })
  }
  if (view.state !== 'importing') return { ...accepted, ...view }
  throw new SandtrailError('DEADLINE_EXCEEDED', `image ${imageId} is not ready yet`, {
    hint: 'see `sandtrail image ls`',
  })
}

/** @param reference an image's id or name, or a snapshot's id. @throws Rejected IMAGE_NOT_FOUND */
export async function readImage(db: Queryable, tenant: string, reference: string): Promise<ImageView> {
  for (const scope of imageScopes(tenant)) {
    const imageId = await findImageId(db, scope, reference)
    const events = imageId === null ? [] : await readStream(db, imageId)
    const view = events[0]?.tenant === scope ? imageView(events) : null
    if (view !== null) return view
  }
  throw new Rejected('IMAGE_NOT_FOUND', `no image is called ${JSON.stringify(reference.slice(0, 80))}`, {
    hint: 'see `sandtrail image ls`',
  })
}

async function findImageId(db: Queryable, tenant: string, reference: string): Promise<string | null> {
  if (isId('im', reference)) return reference
  if (!isId('sn', reference)) return await findClaim(db, tenant, 'image-name', reference)
  const [requested] = await readStream(db, reference, { limit: 1 })
  const { imageId } = (requested?.data ?? {}) as { imageId?: string }
  return imageId ?? null
}

function imageView(events: RecordedEvent[]): ImageView | null {
  const image = events.map((event) => upcast(event)).reduce(imageAggregate.evolve, imageAggregate.initial)
  const [first] = events
  if (first === undefined || image.status === 'absent') return null
  let digest: string | null = null
  let error: ImageView['error'] = null
  for (const event of events as unknown as ImageEvent[]) {
    if (event.type === 'ImageReady') digest = event.data.digest
    if (event.type === 'ImageFailed') error = event.data
  }
  const { name, status: state, source, replicas } = image
  return {
    imageId: first.stream,
    name,
    state,
    source,
    digest,
    shared: first.tenant === PLATFORM_TENANT,
    replicas,
    createdAt: first.at.toISOString(),
    error,
  }
}
