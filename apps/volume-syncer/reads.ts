/** `volume.list`: the tenant's volumes by name. One with its versions is read from its stream by whoever asks. */

import { type VolumeId, volumeAggregate } from '#libs/domain'
import { load, type Queryable } from '#libs/event-store'
import type { VolumeSyncer } from './context.js'

/** As many as one reply holds; a tenant with more lists them by SQL. */
const LIST_MAX = 1_000

const NAMES = `
  select key, holder
  from claims
  where tenant = $1 and kind = 'volume-name'
  order by key
  limit $2
`

export async function listVolumes({ db }: VolumeSyncer, tenant: string): Promise<{ volumes: object[] }> {
  const names = await volumeNames(db, tenant)
  const volumes = await Promise.all(
    names.map(async ({ key, holder }) => {
      const { state } = await load(db, volumeAggregate, holder, { tenant })
      if (state.status === 'absent') return null
      const { workerId, version, status } = state
      return { volumeId: holder, name: key, state: status, workerId, version }
    }),
  )
  return { volumes: volumes.filter((volume) => volume !== null) }
}

async function volumeNames(db: Queryable, tenant: string): Promise<{ key: string; holder: VolumeId }[]> {
  const { rows } = await db.query<{ key: string; holder: VolumeId }>(NAMES, [tenant, LIST_MAX])
  return rows
}
