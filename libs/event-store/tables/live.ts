/** Looking at `live` rows without changing them: which sandboxes are on which worker, in which epoch. */

import type { Queryable } from '../database.js'

export interface LiveSandbox {
  sandboxId: string
  tenant: string
  workerId: string
  epoch: number
  /** `closing`: a stop was asked for. */
  state: 'open' | 'closing'
}

const SELECT = `
  select sandbox_id as "sandboxId", tenant, worker_id as "workerId", epoch, state
  from live
`

const BY_WORKER = `
  ${SELECT}
  where worker_id = $1
  order by sandbox_id
`

/** What the worker should have: the answer to its heartbeat is built from this. */
export async function listLive(db: Queryable, workerId: string): Promise<LiveSandbox[]> {
  const { rows } = await db.query<LiveSandbox>({
    name: 'live-by-worker',
    text: BY_WORKER,
    values: [workerId],
  })
  return rows
}

const BY_TENANT = `
  ${SELECT}
  where tenant = $1
  order by sandbox_id
`

export async function listLiveOf(db: Queryable, tenant: string): Promise<LiveSandbox[]> {
  const { rows } = await db.query<LiveSandbox>(BY_TENANT, [tenant])
  return rows
}

const ALL = `
  ${SELECT}
  order by sandbox_id
`

export async function listAllLive(db: Queryable): Promise<LiveSandbox[]> {
  const { rows } = await db.query<LiveSandbox>(ALL)
  return rows
}

const OF_APP = `
  -- The first event of each live sandbox names its app; there are as many rows as live sandboxes.
  ${SELECT}
  where tenant = $1 and exists (
    select from events e
    where e.stream = live.sandbox_id and e.version = 1 and e.data #>> '{spec,appId}' = $2
  )
  order by sandbox_id
`

/** The sandboxes of an app that live: none is missing once no more can be created in it. */
export async function listLiveOfApp(db: Queryable, tenant: string, appId: string): Promise<LiveSandbox[]> {
  const { rows } = await db.query<LiveSandbox>(OF_APP, [tenant, appId])
  return rows
}

const STRANDED = `
  ${SELECT}
  where worker_id in (select worker_id from workers where state = 'lost')
  order by worker_id, sandbox_id
`

/** What is still to be recorded as lost with its worker. A lost worker gets nothing new, so this only shrinks. */
export async function listStranded(db: Queryable): Promise<LiveSandbox[]> {
  const { rows } = await db.query<LiveSandbox>(STRANDED)
  return rows
}

const COUNT = `
  -- The read model knows the state, the live rows say whom to ask it about: all sandboxes that ever were are not read.
  select s.state, count(*)::int as count
  from live l join sandboxes s on s.sandbox_id = l.sandbox_id
  group by s.state
`

/** How many sandboxes live, by state, over all tenants. A state that none is in is not there. */
export async function countLive(db: Queryable): Promise<{ state: string; count: number }[]> {
  const { rows } = await db.query<{ state: string; count: number }>(COUNT)
  return rows
}
