/** The command router: execs and their streams, and what is done to a running sandbox. */

import type { HandlerContext, ServiceImpl } from '@connectrpc/connect'
import { Rejected } from '#libs/domain'
import { sendCommand } from '../commands.js'
import type { Gateway } from '../gateway.js'
import { readSandbox } from '../lookup.js'
import { createSnapshot } from '../snapshots.js'
import { commitVolume } from '../volumes.js'
import { callOf, originOf } from './calls.js'
import { unimplemented } from './errors.js'
import { findExec, pollExec, startExec, waitForExec } from './execs.js'
import type { TaskCommandRouter } from './gen/task_command_router_pb.js'
import { sandboxIdOfTask } from './ids.js'
import {
  readMainOutput,
  readOutput,
  statusOfStdin,
  streamStdin,
  writeMainStdin,
  writeStdin,
} from './stdio.js'

export function taskCommandRouter(gateway: Gateway): ServiceImpl<typeof TaskCommandRouter> {
  /** The sandbox of a task, which must be the one that the caller's token is for. */
  const sandboxOf = (taskId: string, context: HandlerContext) => {
    const call = callOf(context)
    const sandboxId = sandboxIdOfTask(taskId)
    if (call.sandboxId === sandboxId) return { call, sandboxId }
    throw new Rejected('NOT_FOUND', `the token is not for the task ${taskId}`)
  }
  const execOf = async ({ taskId, execId }: { taskId: string; execId: string }, context: HandlerContext) => {
    const { call, sandboxId } = sandboxOf(taskId, context)
    return { call, execId: await findExec(gateway, call.tenant, sandboxId, execId) }
  }
  const mainOf = async (taskId: string, context: HandlerContext) => {
    const { call, sandboxId } = sandboxOf(taskId, context)
    return await readSandbox(gateway.db, call.tenant, sandboxId)
  }

  return {
    async taskExecStart(request, context) {
      const { call, sandboxId } = sandboxOf(request.taskId, context)
      refuseSidecar(request)
      await startExec(gateway, call, sandboxId, request)
      return {}
    },
    async taskExecWait(request, context) {
      const { call, execId } = await execOf(request, context)
      return { exitStatus: await waitForExec(gateway, call.tenant, execId, context) }
    },
    async taskExecPoll(request, context) {
      const { call, execId } = await execOf(request, context)
      return { exitStatus: await pollExec(gateway, call.tenant, execId) }
    },
    async *taskExecStdioRead(request, context) {
      const { call, execId } = await execOf(request, context)
      for await (const { data } of readOutput(gateway, call.tenant, execId, request, context.signal)) {
        yield { data }
      }
    },
    async taskExecStdinWrite(request, context) {
      const { call, execId } = await execOf(request, context)
      await writeStdin(gateway, call.tenant, execId, request, context.signal)
      return {}
    },
    async taskExecStdinWriteStream(messages, context) {
      await streamStdin(
        gateway,
        messages,
        async (start) => {
          const { call, execId } = await execOf(start, context)
          return { tenant: call.tenant, execId }
        },
        context.signal,
      )
      return {}
    },
    async taskExecStdinStatus(request, context) {
      const { call, execId } = await execOf(request, context)
      return await statusOfStdin(gateway, call.tenant, execId, context.signal)
    },
    async *sandboxStdioReadV2(request, context) {
      const { call, sandboxId } = sandboxOf(request.taskId, context)
      const pieces = readMainOutput(gateway, call.tenant, sandboxId, request, context.signal)
      for await (const { data, offset } of pieces) {
        yield { data, startingOffset: BigInt(offset) }
      }
    },
    async sandboxStdinWriteV2(request, context) {
      await writeMainStdin(gateway, await mainOf(request.taskId, context), request, context.signal)
      return {}
    },
    async taskSnapshotFilesystem(request, context) {
      const { call, sandboxId } = sandboxOf(request.taskId, context)
      refuseSidecar(request)
      if (request.customerSuppliedEncryptionKey !== undefined) {
        throw unimplemented('a key of your own for a snapshot', 'snapshots are not encrypted')
      }
      // Its time to live is a least one here: a snapshot is kept until it is removed.
      const origin = originOf({ ...call, idempotencyKey: request.snapshotId }, 'snapshot')
      const { imageId } = await createSnapshot(gateway, origin, sandboxId, context.signal)
      return { imageId }
    },
    async taskReloadVolumes(request, context) {
      const { call, sandboxId } = sandboxOf(request.taskId, context)
      refuseSidecar(request)
      const { volumes } = await readSandbox(gateway.db, call.tenant, sandboxId)
      for (const { volumeId, readOnly } of volumes) {
        const of = (verb: string) => originOf(call, `${verb}:${volumeId}`)
        const body = { sandboxId, volume: volumeId }
        if (!readOnly) await commitVolume(gateway, of('commit'), body, context.signal)
        await sendCommand(gateway.messaging, of('reload'), 'volume.reload', body)
      }
      return {}
    },
  }
}

function refuseSidecar({ containerId }: { containerId: string }): void {
  if (containerId !== '') throw unimplemented('a sidecar', 'a sandbox has one container')
}
