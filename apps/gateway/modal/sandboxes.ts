/** Sandboxes of both generations: create, wait, end, find, list. */

import { create } from '@bufbuild/protobuf'
import type { HandlerContext, ServiceImpl } from '@connectrpc/connect'
import { SANDBOX_TERMINAL_EVENTS } from '#libs/domain'
import { sendCommand } from '../commands.js'
import type { Gateway } from '../gateway.js'
import { readSandbox } from '../lookup.js'
import type { SandboxView } from '../views/sandbox.js'
import { routerAccess } from './access.js'
import { appIdFrom } from './apps.js'
import { callOf, originOf } from './calls.js'
import { toCreateBody } from './create-options.js'
import { environmentOf } from './environment.js'
import { unimplemented } from './errors.js'
import {
  type ModalClient,
  type SandboxCreateRequest,
  type SandboxCreateV2Request,
  type SandboxGetTaskIdRequest,
  SandboxHandleMetadataSchema,
  type SandboxTag,
  type SandboxTerminateRequest,
  type SandboxWaitRequest,
} from './gen/client_pb.js'
import { type Generation, sandboxIdFor, sandboxIdFrom, sandboxIdOfTask, taskIdFor } from './ids.js'
import { resultOf } from './results.js'

/** An answer must be on its way before the client's own deadline, 5 s later. */
const WAIT_S_MAX = 55

type Sandboxes = Pick<
  ServiceImpl<typeof ModalClient>,
  | 'sandboxCreate'
  | 'sandboxCreateV2'
  | 'sandboxGetTaskId'
  | 'sandboxGetTaskIdV2'
  | 'sandboxGetCommandRouterAccess'
  | 'taskGetCommandRouterAccess'
  | 'sandboxWait'
  | 'sandboxWaitV2'
  | 'sandboxTerminate'
  | 'sandboxTerminateV2'
  | 'sandboxGetTunnels'
  | 'sandboxGetTunnelsV2'
>

export function sandboxes(gateway: Gateway): Sandboxes {
  const { db, messaging, waiter } = gateway

  async function createSandbox(
    request: SandboxCreateRequest | SandboxCreateV2Request,
    context: HandlerContext,
  ): Promise<string> {
    const call = callOf(context)
    const { definition, appId } = request
    if (definition === undefined)
      throw unimplemented('a sandbox without a definition', 'say what it shall be')
    const isV2 = request.$typeName === 'modal.client.SandboxCreateV2Request'
    const env = await environmentOf(gateway, call.tenant, {
      sources: isV2 ? request.secretSources : [],
      secretIds: definition.secretIds,
      env: {
        ...definition.environmentVariables?.contents,
        ...(isV2 ? request.ephemeralSecrets?.contents : undefined),
      },
    })
    const body = toCreateBody(definition, { appId: appIdFrom(appId), env, tags: tagsFrom(request.tags) })
    const { accepted } = await sendCommand(messaging, originOf(call, 'create'), 'sandbox.create', body)
    return accepted.sandboxId ?? accepted.stream
  }

  async function view(context: HandlerContext, sandboxId: string): Promise<SandboxView> {
    return await readSandbox(db, callOf(context).tenant, sandboxIdFrom(sandboxId))
  }

  const getTaskId =
    (generation: Generation) => async (request: SandboxGetTaskIdRequest, context: HandlerContext) => {
      const sandbox = await view(context, request.sandboxId)
      const taskResult = resultOf(sandbox)
      if (taskResult !== undefined) return { taskResult }
      return { taskId: taskIdFor(generation, sandbox.sandboxId) }
    }

  async function wait({ sandboxId, timeout }: SandboxWaitRequest, context: HandlerContext) {
    const { tenant } = callOf(context)
    let sandbox = await view(context, sandboxId)
    if (sandbox.endedAt === null && timeout > 0) {
      const timeoutMs = Math.min(timeout, WAIT_S_MAX) * 1_000
      await waiter.until(sandbox.sandboxId, SANDBOX_TERMINAL_EVENTS, { timeoutMs, signal: context.signal })
      sandbox = await readSandbox(db, tenant, sandbox.sandboxId)
    }
    return { result: resultOf(sandbox), metadata: metadataOf(sandbox) }
  }

  async function terminate({ sandboxId }: SandboxTerminateRequest, context: HandlerContext) {
    const sandbox = await view(context, sandboxId)
    const existingResult = resultOf(sandbox)
    if (existingResult !== undefined) return { existingResult }
    const origin = originOf(callOf(context), 'terminate')
    await sendCommand(messaging, origin, 'sandbox.terminate', { sandboxId: sandbox.sandboxId })
    return {}
  }

  /** None was asked for: a sandbox with open ports is refused. */
  async function getTunnels({ sandboxId }: { sandboxId: string }, context: HandlerContext) {
    await view(context, sandboxId)
    return { tunnels: [] }
  }

  return {
    async sandboxCreate(request, context) {
      return { sandboxId: sandboxIdFor(1, await createSandbox(request, context)) }
    },
    async sandboxCreateV2(request, context) {
      const sandboxId = await createSandbox(request, context)
      return {
        sandboxId: sandboxIdFor(2, sandboxId),
        taskId: taskIdFor(2, sandboxId),
        metadata: create(SandboxHandleMetadataSchema, { appId: request.appId }),
        commandRouterAccess: await routerAccess(gateway, callOf(context), sandboxIdFrom(sandboxId)),
      }
    },
    sandboxGetTaskId: getTaskId(1),
    sandboxGetTaskIdV2: getTaskId(2),
    async sandboxGetCommandRouterAccess({ target }, context) {
      const sandboxId =
        target.case === 'taskId' ? sandboxIdOfTask(target.value) : sandboxIdFrom(target.value ?? '')
      await view(context, sandboxId)
      return await routerAccess(gateway, callOf(context), sandboxId)
    },
    async taskGetCommandRouterAccess({ taskId }, context) {
      const sandboxId = sandboxIdOfTask(taskId)
      await view(context, sandboxId)
      return await routerAccess(gateway, callOf(context), sandboxId)
    },
    sandboxWait: wait,
    sandboxWaitV2: wait,
    sandboxTerminate: terminate,
    sandboxTerminateV2: terminate,
    sandboxGetTunnels: getTunnels,
    sandboxGetTunnelsV2: getTunnels,
  }
}

export function metadataOf(sandbox: SandboxView) {
  return create(SandboxHandleMetadataSchema, {
    appId: sandbox.appId ?? '',
    result: resultOf(sandbox),
  })
}

export function tagsFrom(tags: SandboxTag[]): Record<string, string> {
  return Object.fromEntries(tags.map(({ tagName, tagValue }) => [tagName, tagValue]))
}
