/** Apps: the list, one by id or name, and the app that a name means now. */

import { type AppEvent, type AppId, type AppSpec, appAggregate, isId, Rejected } from '#libs/domain'
import {
  type AppRow,
  findClaim,
  type ListApps,
  listApps,
  listLiveOfApp,
  type Queryable,
  readStream,
  upcast,
} from '#libs/event-store'
import { catchUp } from './catch-up.js'
import type { Gateway } from './gateway.js'

export interface AppView extends AppSpec {
  appId: string
  state: 'running' | 'stopped'
  createdAt: string
  stoppedAt: string | null
  stopReason: string | null
  /** Of its sandboxes, how many live. */
  sandboxes: number
}

/** A moment behind the streams, as the list of sandboxes is: it waits for what was committed before it was asked for. */
export async function readAppList(
  { db }: Gateway,
  wanted: ListApps,
): Promise<{ apps: AppRow[]; nextCursor: string | null }> {
  // A later page shows what its first one did not, whether new or not.
  if (wanted.cursor === undefined) await catchUp(db, ['apps', 'sandboxes'])
  return await listApps(db, wanted)
}

/** The running app of this name in this environment; null when there is none. */
export async function findApp(
  db: Queryable,
  tenant: string,
  { name, environment }: { name: string; environment: string },
): Promise<AppId | null> {
  const holder = await findClaim(db, tenant, 'app-name', `${environment}/${name}`)
  return isId('ap', holder) ? holder : null
}

/** @param reference an id, or the name of a running app in this environment. @throws Rejected APP_NOT_FOUND */
export async function findAppId(
  db: Queryable,
  tenant: string,
  reference: string,
  environment: string,
): Promise<AppId> {
  if (isId('ap', reference)) return reference
  return (await findApp(db, tenant, { name: reference, environment })) ?? noApp(reference)
}

/** An app by its id, as its stream tells of it. @throws Rejected APP_NOT_FOUND, for another tenant's too */
export async function readApp(db: Queryable, tenant: string, appId: AppId): Promise<AppView> {
  const events = await readStream(db, appId)
  const app = events.map((event) => upcast(event)).reduce(appAggregate.evolve, appAggregate.initial)
  const [first] = events
  if (first?.tenant !== tenant || app.status === 'absent') return noApp(appId)
  const { status: state, ...spec } = app
  const stopped = events.find(({ type }) => type === 'AppStopped')
  const stop = stopped as unknown as Extract<AppEvent, { type: 'AppStopped' }> | undefined
  return {
    appId,
    ...spec,
    state,
    createdAt: first.at.toISOString(),
    stoppedAt: stopped?.at.toISOString() ?? null,
    stopReason: stop?.data.reason ?? null,
    sandboxes: (await listLiveOfApp(db, tenant, appId)).length,
  }
}

function noApp(reference: string): never {
  throw new Rejected('APP_NOT_FOUND', `no app has the id or name ${JSON.stringify(reference.slice(0, 80))}`, {
    hint: 'see `sandtrail app ls`',
  })
}
