/** The list of images: a read model that follows the ledger. One image's truth is its stream. */

import { type ImageEvent, type ImageId, imageScopes, KNOWN_EVENTS, PLATFORM_TENANT } from '#libs/domain'
import type { Projection, Queryable, RecordedEvent, Transaction } from '#libs/event-store'

export const imagesProjection: Projection = {
  name: 'images',
  tables: ['images'],
  knows: KNOWN_EVENTS,
  types: [
    'ImageImportRequested',
    'ImageReplicated',
    'ImageReady',
    'ImageFailed',
    'ImageCreatedFromSnapshot',
    'ImageRemoved',
  ],
  async apply(tx, events) {
    for (const event of events) await apply(tx, event)
  },
}

const INSERT = `
  insert into images (image_id, tenant, name, state, source, replicas, created_at, position)
  values ($1, $2, $3, $4, $5, $6, $7, $8)
`
const REPLICATED = `
  update images
  set replicas = array_append(replicas, $2), position = $3
  where image_id = $1
`
const CHANGE = `
  update images
  set state = $2, digest = coalesce($3, digest), error = coalesce($4, error), position = $5
  where image_id = $1
`

async function apply(tx: Transaction, recorded: RecordedEvent): Promise<void> {
  const event = recorded as unknown as ImageEvent
  const { stream, tenant, at } = recorded
  const position = String(recorded.position)
  switch (event.type) {
    case 'ImageImportRequested': {
      const { name, source } = event.data
      await tx.query(INSERT, [stream, tenant, name, 'importing', JSON.stringify(source), [], at, position])
      return
    }
    case 'ImageCreatedFromSnapshot': {
      const { source, workerId } = event.data
      await tx.query(INSERT, [
        stream,
        tenant,
        null,
        'ready',
        JSON.stringify(source),
        [workerId],
        at,
        position,
      ])
      return
    }
    case 'ImageReplicated':
      await tx.query(REPLICATED, [stream, event.data.workerId, position])
      return
    case 'ImageReady':
      await tx.query(CHANGE, [stream, 'ready', event.data.digest, null, position])
      return
    case 'ImageFailed':
      await tx.query(CHANGE, [stream, 'failed', null, JSON.stringify(event.data), position])
      return
    case 'ImageRemoved':
      await tx.query(CHANGE, [stream, 'removed', null, null, position])
  }
}

const SELECT = `
  select image_id as "imageId", name, state, source, digest, tenant = $3 as shared, replicas,
         created_at as "createdAt", error
  from images
`
const LIST = `
  ${SELECT}
  where tenant = any($1) and state <> 'removed' and ($2::text is null or image_id < $2)
  order by image_id desc
  limit $4
`
const GET = `
  ${SELECT}
  where tenant = any($1) and image_id = $2
`

/** Newest first, without the removed ones; those of the platform among them. */
export async function listImages(
  db: Queryable,
  tenant: string,
  page: { limit: number; cursor: string | null },
) {
  return (await db.query(LIST, [imageScopes(tenant), page.cursor, PLATFORM_TENANT, page.limit]))
    .rows as object[]
}

export async function getImage(db: Queryable, tenant: string, imageId: string): Promise<object | null> {
  return (
    ((await db.query(GET, [imageScopes(tenant), imageId, PLATFORM_TENANT])).rows[0] as object | undefined) ??
    null
  )
}

const UNFINISHED = `
  select 'import' as kind, image_id as "imageId", tenant
  from images
  where state = 'importing'
  union all
  -- A worker that joined, or came back, after the import.
  select distinct 'replicate', i.image_id, i.tenant
  from images i
  join workers w on w.state <> 'lost' and not i.replicas @> array[w.worker_id]
  where i.state = 'ready' and i.source ->> 'kind' = 'import'
`

export async function unfinishedImages(
  db: Queryable,
): Promise<{ kind: 'import' | 'replicate'; imageId: ImageId; tenant: string }[]> {
  return (await db.query<{ kind: 'import' | 'replicate'; imageId: ImageId; tenant: string }>(UNFINISHED)).rows
}
