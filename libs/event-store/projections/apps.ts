/** The list of apps, running and stopped, for whoever filters and pages. One app's truth is its stream. */

import { type AppEvent, KNOWN_EVENTS } from '#libs/domain'
import type { Queryable, Transaction } from '../database.js'
import type { Projection } from '../projection.js'
import type { RecordedEvent } from '../types.js'

export const appsProjection: Projection = {
  name: 'apps',
  tables: ['apps'],
  knows: KNOWN_EVENTS,
  types: ['AppCreated', 'AppStopped'],
  apply,
}

const CREATE = `
  insert into apps (app_id, tenant, name, environment, kind, description, state, created_at, position)
  values ($1, $2, $3, $4, $5, $6, 'running', $7, $8)
`
const STOP = `
  update apps
  set state = 'stopped', stopped_at = $2, stop_reason = $3, position = $4
  where app_id = $1
`

async function apply(tx: Transaction, events: RecordedEvent[]): Promise<void> {
  for (const recorded of events) {
    const event = recorded as unknown as AppEvent
    const { stream, tenant, at } = recorded
    const position = String(recorded.position)
    switch (event.type) {
      case 'AppCreated': {
        const { name, environment, kind, description } = event.data
        await tx.query(CREATE, [stream, tenant, name, environment, kind, description, at, position])
        break
      }
      case 'AppStopped':
        await tx.query(STOP, [stream, at, event.data.reason, position])
    }
  }
}

export interface AppRow {
  appId: string
  name: string | null
  environment: string
  kind: 'deployed' | 'ephemeral'
  description: string
  state: 'running' | 'stopped'
  createdAt: Date
  stoppedAt: Date | null
  stopReason: string | null
  /** Of its sandboxes, how many have not ended. */
  sandboxes: number
}

const LIST = `
  select a.app_id as "appId", a.name, a.environment, a.kind, a.description, a.state, a.created_at as "createdAt",
         a.stopped_at as "stoppedAt", a.stop_reason as "stopReason",
         (select count(*)::int from sandboxes s where s.app_id = a.app_id and s.state <> 'ended') as sandboxes
  from apps a
  where a.tenant = $1
    and ($2::text is null or a.app_id = $2)
    and ($3::text is null or a.state = $3)
    and ($4::text is null or a.environment = $4)
    and ($5::text is null or a.name = $5)
    and ($6::text is null or a.app_id < $6)
  order by a.app_id desc
  limit $7
`

export interface ListApps {
  tenant: string
  appId?: string | undefined
  state?: AppRow['state'] | undefined
  environment?: string | undefined
  name?: string | undefined
  limit?: number | undefined
  /** `nextCursor` of the page before. */
  cursor?: string | undefined
}

/** Newest first, at most `limit` (100). `nextCursor` is null on the last page. */
export async function listApps(
  db: Queryable,
  { tenant, appId, state, environment, name, limit = 100, cursor }: ListApps,
): Promise<{ apps: AppRow[]; nextCursor: string | null }> {
  // One more than asked for tells whether there is a next page.
  const filter = [appId, state, environment, name, cursor].map((value) => value ?? null)
  const { rows } = await db.query<AppRow>(LIST, [tenant, ...filter, limit + 1])
  const apps = rows.slice(0, limit)
  return { apps, nextCursor: rows.length > limit ? (apps.at(-1)?.appId ?? null) : null }
}
