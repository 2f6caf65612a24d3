/** Asks the services that decide on volumes and images to remove those of a tenant. Safe to repeat. */

import { Rejected } from '#libs/domain'
import { derivedCommandId, type Queryable } from '#libs/event-store'
import { commandHeaders, subjects } from '#libs/messaging'
import type { Scheduler } from './context.js'

const THINGS = `
  select 'volume' as kind, holder as id
  from claims
  where tenant = $1 and kind = 'volume-name'
  union all
  select 'image', image_id
  from images
  where tenant = $1 and state in ('importing', 'ready')
`

interface Thing {
  kind: 'volume' | 'image'
  id: string
}

/** @throws SandtrailError when a service does not answer: whoever asks comes again */
export async function removeThings({ db, messaging, log }: Scheduler, tenant: string): Promise<void> {
  for (const { kind, id } of await listThings(db, tenant)) {
    const headers = commandHeaders({
      commandId: derivedCommandId('tenant-removed', id, 0),
      expiresAt: new Date(Date.now() + 3_600_000),
      actor: 'system:scheduler',
    })
    try {
      await messaging.request(subjects.request(tenant, kind, 'remove'), { [kind]: id }, { headers })
    } catch (err) {
      // It is counted again, and asked for again, while it is there.
      if (!(err instanceof Rejected)) throw err
      log.warn({ err, tenant, [kind]: id }, 'a thing of a removed tenant stays')
    }
  }
}

async function listThings(db: Queryable, tenant: string): Promise<Thing[]> {
  const { rows } = await db.query<Thing>(THINGS, [tenant])
  return rows
}
