/** Which live sandboxes mount a volume. */

import type { Queryable } from '../database.js'

const LIVE_WITH_VOLUME = `
  -- The first event of each live sandbox names its volumes; there are as many rows as live sandboxes.
  select l.sandbox_id
  from live l
  join events e on e.stream = l.sandbox_id and e.version = 1
  where e.data->'spec'->'volumes' @> jsonb_build_array(jsonb_build_object('volumeId', $1::text))
  order by l.sandbox_id
  limit 10
`

/** At most ten of them. */
export async function liveSandboxesWith(db: Queryable, volumeId: string): Promise<string[]> {
  const { rows } = await db.query<{ sandbox_id: string }>(LIVE_WITH_VOLUME, [volumeId])
  return rows.map((row) => row.sandbox_id)
}
