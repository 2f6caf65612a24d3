/** The list of a tenant's images, imported ones and snapshots' alike. One image's truth is its stream. */

import type { ImageEvent } from '#libs/domain'
import type { Projection, Queryable, RecordedEvent, Transaction } from '#libs/event-store'

export const imagesProjection: Projection = {
  name: 'images',
  tables: ['images'],
  types: [
    'ImageImportRequested',
    'ImageReplicated',
    'ImageReady',
    'ImageFailed',
    'ImageCreatedFromSnapshot',
    'ImageRemoved',
  ],
  apply,
}

async function apply(tx: Transaction, recorded: RecordedEvent): Promise<void> {
  const event = recorded as unknown as ImageEvent
  const { stream } = recorded
  switch (event.type) {
    case 'ImageImportRequested':
      return insert(tx, recorded, {
        state: 'importing',
        wantedName: event.data.name,
        source: event.data.source,
        replicas: [],
      })
    case 'ImageCreatedFromSnapshot': {
      const { source, workerId } = event.data
      return insert(tx, recorded, { state: 'ready', wantedName: null, source, replicas: [workerId] })
    }
    case 'ImageReplicated':
      return void (await tx.query(ADD_REPLICA, [stream, event.data.workerId]))
    case 'ImageReady':
      await tx.query(FREE_NAME, [stream])
      return void (await tx.query(READY, [stream, event.data.digest]))
    case 'ImageFailed':
      return void (await tx.query(SET_STATE, [stream, 'failed']))
    case 'ImageRemoved':
      return void (await tx.query(SET_STATE, [stream, 'removed']))
  }
}

const INSERT = `
  insert into images (image_id, tenant, state, wanted_name, source, replicas, created_at)
  values ($1, $2, $3, $4, $5, $6, $7)
`

async function insert(
  tx: Transaction,
  { stream, tenant, at }: RecordedEvent,
  image: { state: string; wantedName: string | null; source: object; replicas: string[] },
): Promise<void> {
  const { state, wantedName, source, replicas } = image
  await tx.query(INSERT, [stream, tenant, state, wantedName, JSON.stringify(source), replicas, at])
}

const ADD_REPLICA = `
  update images
  set replicas = array_append(replicas, $2::text)
  where image_id = $1
`
const FREE_NAME = `
  -- The name moves to the image that is ready now.
  update images former
  set name = null
  from images ready
  where ready.image_id = $1 and former.tenant = ready.tenant and former.name = ready.wanted_name
`
const READY = `
  update images
  set state = 'ready', name = wanted_name, digest = $2
  where image_id = $1
`
const SET_STATE = `
  update images
  set state = $2, name = null
  where image_id = $1
`

/** As many as one reply holds, the newest first. */
const LIST_MAX = 1_000

const LIST = `
  select image_id as "imageId", name, state, source, digest, replicas, created_at as "createdAt"
  from images
  where tenant = $1 and state in ('importing', 'ready')
  order by image_id desc
  limit $2
`

export async function listImages(db: Queryable, tenant: string): Promise<{ images: object[] }> {
  const { rows } = await db.query<{ createdAt: Date }>(LIST, [tenant, LIST_MAX])
  return { images: rows.map((row) => ({ ...row, createdAt: row.createdAt.toISOString() })) }
}
