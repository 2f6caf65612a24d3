/** Volumes as their streams tell of them: the list by name, one, and its versions in pages. */

import { z } from 'zod'
import { parseBody, reference } from '#libs/contract'
import { type VolumeEvent, type VolumeId, volumeAggregate } from '#libs/domain'
import { load, type Queryable, readStream } from '#libs/event-store'
import type { VolumeSyncer } from './context.js'
import { findVolume, loadVolume } from './volumes.js'

/** As many as one reply holds; a tenant with more lists them by SQL. */
const LIST_MAX = 1_000
/** What a version lists of overwritten paths is at most 256 KiB: two of them fit into a message in any case. */
const VERSIONS_BYTES_MAX = 512 * 1024

const NAMES = `
  select c.key as name, c.holder as "volumeId", e.at as "createdAt"
  from claims c
  join events e on e.stream = c.holder and e.version = 1
  where c.tenant = $1 and c.kind = 'volume-name'
  order by c.key
  limit $2
`

interface Named {
  name: string
  volumeId: VolumeId
  createdAt: Date
}

export async function listVolumes({ db }: VolumeSyncer, tenant: string): Promise<{ volumes: object[] }> {
  const volumes = await Promise.all(
    (await volumeNames(db, tenant)).map(async ({ name, volumeId, createdAt }) => {
      const { state } = await load(db, volumeAggregate, volumeId, { tenant })
      if (state.status === 'absent') return null
      const { workerId, version, status } = state
      return { volumeId, name, state: status, workerId, version, createdAt: createdAt.toISOString() }
    }),
  )
  return { volumes: volumes.filter((volume) => volume !== null) }
}

async function volumeNames(db: Queryable, tenant: string): Promise<Named[]> {
  const { rows } = await db.query<Named>(NAMES, [tenant, LIST_MAX])
  return rows
}

const getBody = z.strictObject({ volume: reference(64) })

/** @throws Rejected VOLUME_NOT_FOUND */
export async function getVolume(syncer: VolumeSyncer, tenant: string, body: unknown): Promise<object> {
  const volumeId = await findVolume(syncer, tenant, parseBody(getBody, body).volume)
  const { state } = await loadVolume(syncer, tenant, volumeId)
  const { name, status, workerId, version } = state
  const [created] = await readStream(syncer.db, volumeId, { limit: 1 })
  return { volumeId, name, state: status, workerId, version, createdAt: created!.at.toISOString() }
}

const versionsBody = z.strictObject({
  volume: reference(64),
  afterVersion: z.int().min(0).default(0),
})

/** As many as fit into a reply; ask again after the last until `more` is false. @throws Rejected VOLUME_NOT_FOUND */
export async function listVersions(
  syncer: VolumeSyncer,
  tenant: string,
  body: unknown,
): Promise<{ versions: object[]; more: boolean }> {
  const { volume, afterVersion } = parseBody(versionsBody, body)
  const volumeId = await findVolume(syncer, tenant, volume)
  await loadVolume(syncer, tenant, volumeId)
  const versions: object[] = []
  let bytes = 0
  for (const recorded of await readStream(syncer.db, volumeId)) {
    const event = recorded as unknown as VolumeEvent
    if (event.type !== 'VolumeCommitted' || event.data.version <= afterVersion) continue
    const version = { ...event.data, at: recorded.at.toISOString() }
    bytes += Buffer.byteLength(JSON.stringify(version))
    if (bytes > VERSIONS_BYTES_MAX && versions.length > 0) return { versions, more: true }
    versions.push(version)
  }
  return { versions, more: false }
}
