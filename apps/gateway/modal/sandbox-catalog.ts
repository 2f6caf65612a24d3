/** Sandboxes by name and in lists, their tags, and the same as the command line's containers. */

import { create } from '@bufbuild/protobuf'
import type { HandlerContext, ServiceImpl } from '@connectrpc/connect'
import { isId, Rejected, type SandboxId } from '#libs/domain'
import { findClaim, type SandboxRow } from '#libs/event-store'
import { sendCommand } from '../commands.js'
import type { Gateway } from '../gateway.js'
import { readSandbox } from '../lookup.js'
import { readSandboxList } from '../sandbox-list.js'
import { appByName, appIdFrom } from './apps.js'
import { callOf, originOf } from './calls.js'
import { requireEnvironment } from './environments.js'
import {
  type ModalClient,
  type SandboxGetFromNameRequest,
  SandboxInfoSchema,
  type SandboxListRequest,
  type SandboxTagsGetRequest,
  type SandboxTagsSetRequest,
  TaskInfoSchema,
} from './gen/client_pb.js'
import { type Generation, sandboxIdFor, sandboxIdFrom, sandboxIdOfTask, taskIdFor } from './ids.js'
import { resultOf } from './results.js'
import { metadataOf, tagsFrom } from './sandboxes.js'
import { firstIdAt, seconds, timeIn } from './times.js'

const PAGE = 100
const LIVING = ['created', 'starting', 'running', 'stopping']

type Catalog = Pick<
  ServiceImpl<typeof ModalClient>,
  | 'sandboxList'
  | 'sandboxListV2'
  | 'sandboxGetFromName'
  | 'sandboxGetFromNameV2'
  | 'sandboxTagsSet'
  | 'sandboxTagsSetV2'
  | 'sandboxTagsGet'
  | 'sandboxTagsGetV2'
  | 'sandboxSetName'
  | 'taskList'
  | 'taskGetInfo'
  | 'containerStop'
>

export function sandboxCatalog(gateway: Gateway): Catalog {
  const { db, messaging } = gateway

  const list = (generation: Generation) => async (request: SandboxListRequest, context: HandlerContext) => {
    const { appId, beforeTimestamp, includeFinished, environmentName, tags } = request
    requireEnvironment(environmentName)
    const { sandboxes } = await readSandboxList(gateway, {
      tenant: callOf(context).tenant,
      states: includeFinished ? undefined : LIVING,
      tags: tagsFrom(tags),
      appId: appId === '' ? undefined : appIdFrom(appId),
      limit: PAGE,
      cursor: beforeTimestamp > 0 ? firstIdAt(beforeTimestamp) : undefined,
    })
    return { sandboxes: sandboxes.map((row) => infoOf(row, generation)) }
  }

  const fromName =
    (generation: Generation) => async (request: SandboxGetFromNameRequest, context: HandlerContext) => {
      const { tenant } = callOf(context)
      const { sandboxName: name, appName, environmentName, includeTerminated } = request
      const appId = await appByName(gateway, tenant, environmentName, appName)
      const holder = await findClaim(db, tenant, 'sandbox-name', `${appId}/${name}`)
      const sandboxId = isId('sb', holder)
        ? holder
        : includeTerminated
          ? await newestOf(tenant, appId, name)
          : null
      if (sandboxId === null) {
        throw new Rejected(
          'NOT_FOUND',
          `Sandbox with name '${name.slice(0, 64)}' not found in App '${appName.slice(0, 64)}'`,
        )
      }
      const sandbox = await readSandbox(db, tenant, sandboxId)
      return { sandboxId: sandboxIdFor(generation, sandboxId), metadata: metadataOf(sandbox) }
    }

  async function newestOf(tenant: string, appId: string, name: string): Promise<SandboxId | null> {
    const { sandboxes } = await readSandboxList(gateway, { tenant, appId, name, limit: 1 })
    return (sandboxes[0]?.sandboxId as SandboxId | undefined) ?? null
  }

  async function setTags({ sandboxId, tags }: SandboxTagsSetRequest, context: HandlerContext) {
    const body = { sandboxId: sandboxIdFrom(sandboxId), tags: tagsFrom(tags) }
    await sendCommand(messaging, originOf(callOf(context), 'tag'), 'sandbox.tag', body)
    return {}
  }

  async function getTags({ sandboxId }: SandboxTagsGetRequest, context: HandlerContext) {
    const { tags } = await readSandbox(db, callOf(context).tenant, sandboxIdFrom(sandboxId))
    return { tags: tagList(tags) }
  }

  return {
    sandboxList: list(1),
    sandboxListV2: list(2),
    sandboxGetFromName: fromName(1),
    sandboxGetFromNameV2: fromName(2),
    sandboxTagsSet: setTags,
    sandboxTagsSetV2: setTags,
    sandboxTagsGet: getTags,
    sandboxTagsGetV2: getTags,
    async sandboxSetName({ sandboxId, name }, context) {
      const body = { sandboxId: sandboxIdFrom(sandboxId), name }
      await sendCommand(messaging, originOf(callOf(context), 'name'), 'sandbox.name', body)
      return {}
    },
    async taskList({ appId, environmentName }, context) {
      requireEnvironment(environmentName)
      const { sandboxes } = await readSandboxList(gateway, {
        tenant: callOf(context).tenant,
        states: LIVING,
        appId: appId === '' ? undefined : appIdFrom(appId),
        limit: PAGE,
      })
      const tasks = sandboxes.map((row) => ({
        taskId: taskIdFor(2, row.sandboxId),
        appId: row.appId ?? '',
        appDescription: row.name ?? row.sandboxId,
        startedAt: seconds(row.startedAt),
        enqueuedAt: seconds(row.createdAt),
      }))
      return { tasks }
    },
    async taskGetInfo({ taskId }, context) {
      const sandbox = await readSandbox(db, callOf(context).tenant, sandboxIdOfTask(taskId))
      const info = {
        id: taskId,
        startedAt: seconds(sandbox.startedAt),
        finishedAt: seconds(sandbox.endedAt),
        result: resultOf(sandbox),
        enqueuedAt: seconds(sandbox.createdAt),
        sandboxId: sandbox.sandboxId,
      }
      return { appId: sandbox.appId ?? '', info }
    },
    async containerStop({ taskId }, context) {
      const body = { sandboxId: sandboxIdOfTask(taskId) }
      await sendCommand(messaging, originOf(callOf(context), 'stop'), 'sandbox.terminate', body)
      return {}
    },
  }
}

function infoOf(row: SandboxRow, generation: Generation) {
  const result = resultOf({ ...row, errorCode: null })
  return create(SandboxInfoSchema, {
    id: sandboxIdFor(generation, row.sandboxId),
    createdAt: timeIn(row.sandboxId),
    taskInfo: create(TaskInfoSchema, {
      id: taskIdFor(generation, row.sandboxId),
      startedAt: seconds(row.startedAt),
      finishedAt: seconds(row.endedAt),
      enqueuedAt: seconds(row.createdAt),
      result,
    }),
    appId: row.appId ?? '',
    tags: tagList(row.tags),
    name: row.name ?? '',
    imageId: row.imageId,
    metadata: { appId: row.appId ?? '', result },
  })
}

function tagList(tags: Record<string, string>) {
  return Object.entries(tags).map(([tagName, tagValue]) => ({ tagName, tagValue }))
}
