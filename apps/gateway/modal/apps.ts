/** Apps: what groups sandboxes, and within which their names are unique. An ephemeral one lives while its client beats. */

import { randomUUID } from 'node:crypto'
import type { HandlerContext, ServiceImpl } from '@connectrpc/connect'
import { type AppId, isId, Rejected } from '#libs/domain'
import type { AppRow } from '#libs/event-store'
import { type AppView, findApp, readApp, readAppList } from '../apps.js'
import { sendCommand } from '../commands.js'
import type { Gateway } from '../gateway.js'
import { type Call, callOf, originOf } from './calls.js'
import { requireEnvironment } from './environments.js'
import { AppState, type ModalClient, ObjectCreationType } from './gen/client_pb.js'
import { seconds } from './times.js'

/** The SDKs open the stream again; they ask for 55. */
const LOGS_S_MAX = 55

type Apps = Pick<
  ServiceImpl<typeof ModalClient>,
  | 'appGetOrCreate'
  | 'appCreate'
  | 'appPublish'
  | 'appHeartbeat'
  | 'appClientDisconnect'
  | 'appStop'
  | 'appList'
  | 'appGetByDeploymentName'
  | 'appGetLogs'
>

/** @throws Rejected NOT_FOUND */
export function appIdFrom(text: string): AppId {
  if (isId('ap', text)) return text
  throw new Rejected('NOT_FOUND', `no app has the id ${JSON.stringify(text.slice(0, 80))}`)
}

/** The running app of this name. @throws Rejected NOT_FOUND */
export async function appByName(
  gateway: Gateway,
  tenant: string,
  environment: string,
  name: string,
): Promise<AppId> {
  const appId = await findApp(gateway.db, tenant, { name, environment: requireEnvironment(environment) })
  if (appId !== null) return appId
  throw new Rejected('NOT_FOUND', `App '${name.slice(0, 64)}' not found`)
}

export function apps(gateway: Gateway): Apps {
  const { db, messaging, waiter } = gateway

  async function getOrCreate(call: Call, environment: string, name: string): Promise<AppId> {
    const known = await findApp(db, call.tenant, { name, environment })
    if (known !== null) return known
    try {
      const body = { name, environment, kind: 'deployed' }
      return appIdFrom(
        (await sendCommand(messaging, originOf(call, 'app'), 'app.create', body)).accepted.stream,
      )
    } catch (error) {
      // Another call was first.
      if ((error as Partial<Rejected>).code !== 'NAME_TAKEN') throw error
      return await appByName(gateway, call.tenant, environment, name)
    }
  }

  async function stop(call: Call, appId: string, reason: 'requested' | 'client-disconnected') {
    await sendCommand(messaging, originOf(call, 'stop'), 'app.stop', { appId: appIdFrom(appId), reason })
    return {}
  }

  async function* logs({ appId, timeout }: { appId: string; timeout: number }, context: HandlerContext) {
    const { tenant } = callOf(context)
    const app = await readApp(db, tenant, appIdFrom(appId))
    const timeoutMs = Math.min(timeout || LOGS_S_MAX, LOGS_S_MAX) * 1_000
    const isDone = await waiter.until(app.appId, ['AppStopped'], { timeoutMs, signal: context.signal })
    if (isDone) yield { appDone: true }
  }

  return {
    async appGetOrCreate({ appName, environmentName, objectCreationType }, context) {
      const call = callOf(context)
      if (objectCreationType === ObjectCreationType.UNSPECIFIED) {
        return { appId: await appByName(gateway, call.tenant, environmentName, appName) }
      }
      return { appId: await getOrCreate(call, requireEnvironment(environmentName), appName) }
    },
    async appCreate({ description, environmentName }, context) {
      const body = {
        name: null,
        environment: requireEnvironment(environmentName),
        kind: 'ephemeral',
        description,
      }
      const origin = originOf(callOf(context), 'app')
      return { appId: (await sendCommand(messaging, origin, 'app.create', body)).accepted.stream }
    },
    async appPublish({ appId }, context) {
      await readApp(db, callOf(context).tenant, appIdFrom(appId))
      return {}
    },
    async appHeartbeat({ appId }, context) {
      // Each beat counts, also one whose call is tried again.
      const origin = { ...originOf(callOf(context), 'beat'), commandId: randomUUID() }
      await sendCommand(messaging, origin, 'app.heartbeat', { appId: appIdFrom(appId) })
      return {}
    },
    appClientDisconnect: ({ appId }, context) => stop(callOf(context), appId, 'client-disconnected'),
    appStop: ({ appId }, context) => stop(callOf(context), appId, 'requested'),
    async appList({ environmentName }, context) {
      const environment = requireEnvironment(environmentName)
      const { apps } = await readAppList(gateway, { tenant: callOf(context).tenant, environment })
      return { apps: apps.map(listItem) }
    },
    async appGetByDeploymentName({ name, environmentName }, context) {
      const { tenant } = callOf(context)
      const environment = requireEnvironment(environmentName)
      const { apps } = await readAppList(gateway, { tenant, environment, name, limit: 1 })
      const [newest] = apps
      if (newest === undefined) return { environmentName: environment }
      const lifecycle = {
        appState: stateOf(newest),
        createdAt: seconds(newest.createdAt),
        stoppedAt: seconds(newest.stoppedAt),
      }
      const found = newest.state === 'running' ? { appId: newest.appId } : { previousAppId: newest.appId }
      return { ...found, environmentName: environment, lifecycle }
    },
    appGetLogs: logs,
  }
}

function listItem(app: AppRow) {
  return {
    appId: app.appId,
    description: app.description || (app.name ?? app.appId),
    state: stateOf(app),
    createdAt: seconds(app.createdAt),
    stoppedAt: seconds(app.stoppedAt),
    nRunningTasks: app.sandboxes,
    name: app.name ?? '',
  }
}

function stateOf({ state, kind }: Pick<AppView, 'state' | 'kind'>): AppState {
  if (state === 'stopped') return AppState.STOPPED
  return kind === 'ephemeral' ? AppState.EPHEMERAL : AppState.DEPLOYED
}
