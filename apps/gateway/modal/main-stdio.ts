/** The main process's streams as the first generation of the API has them: logs in text, and numbered writes. */

import type { HandlerContext, ServiceImpl } from '@connectrpc/connect'
import type { Gateway } from '../gateway.js'
import { readSandbox } from '../lookup.js'
import { Recent } from '../recent.js'
import { callOf } from './calls.js'
import { FileDescriptor, type ModalClient, type SandboxGetLogsRequest } from './gen/client_pb.js'
import { StdioFileDescriptor } from './gen/task_command_router_pb.js'
import { sandboxIdFrom } from './ids.js'
import { readMainOutput, writeMainStdin } from './stdio.js'

/** The SDKs open the stream again where it ended; they ask for 55. */
const LOGS_S_MAX = 55
const WRITERS_MAX = 10_000

type MainStdio = Pick<ServiceImpl<typeof ModalClient>, 'sandboxGetLogs' | 'sandboxStdinWrite'>

export function mainStdio(gateway: Gateway): MainStdio {
  /** By sandbox: the last write, and where the next begins. A gateway that has just started asks the worker. */
  const writers = new Recent<{ index: number; offset: number }>(WRITERS_MAX)

  async function view(sandboxId: string, context: HandlerContext) {
    return await readSandbox(gateway.db, callOf(context).tenant, sandboxIdFrom(sandboxId))
  }

  async function* logs(request: SandboxGetLogsRequest, context: HandlerContext) {
    const { tenant } = callOf(context)
    const sandboxId = sandboxIdFrom(request.sandboxId)
    const isErrors = request.fileDescriptor === FileDescriptor.STDERR
    const fileDescriptor = isErrors ? StdioFileDescriptor.STDERR : StdioFileDescriptor.STDOUT
    const offset = BigInt(/^\d+/.exec(request.lastEntryId)?.[0] ?? 0)
    const time = AbortSignal.timeout(Math.min(request.timeout || LOGS_S_MAX, LOGS_S_MAX) * 1_000)
    const signal = AbortSignal.any([context.signal, time])
    let rest = Buffer.alloc(0)
    let at = Number(offset)
    try {
      for await (const piece of readMainOutput(
        gateway,
        tenant,
        sandboxId,
        { offset, fileDescriptor },
        signal,
      )) {
        const bytes = Buffer.concat([rest, piece.data])
        at = piece.offset - rest.length
        const length = wholeCharacters(bytes)
        rest = bytes.subarray(length)
        if (length === 0) continue
        at += length
        const data = bytes.toString('utf8', 0, length)
        yield { items: [{ data, fileDescriptor: request.fileDescriptor }], entryId: `${at}-0` }
      }
    } catch (error) {
      // Its time is up: the SDK comes back for the rest.
      if (time.aborted && !context.signal.aborted) return
      throw error
    }
    if (signal.aborted) return
    if (rest.length > 0) {
      at += rest.length
      yield { items: [{ data: rest.toString(), fileDescriptor: request.fileDescriptor }], entryId: `${at}-0` }
    }
    yield { entryId: `${at}-0`, eof: true }
  }

  return {
    sandboxGetLogs: logs,
    async sandboxStdinWrite({ sandboxId, input, index, eof }, context) {
      const sandbox = await view(sandboxId, context)
      const last = writers.get(sandbox.sandboxId)
      if (last !== undefined && index <= last.index) return {}
      const offset =
        last?.offset ?? (index === 1 ? 0 : await writeMainStdin(gateway, sandbox, NOTHING, context.signal))
      await writeMainStdin(gateway, sandbox, { offset: BigInt(offset), data: input, eof }, context.signal)
      writers.set(sandbox.sandboxId, { index, offset: offset + input.length })
      return {}
    },
  }
}

const NOTHING = { offset: 0n, data: new Uint8Array(), eof: false }

/** Of these bytes, how many end with a whole character of UTF-8; all of them when the end is no UTF-8 at all. */
export function wholeCharacters(bytes: Uint8Array): number {
  for (let back = 1; back <= 3 && back <= bytes.length; back++) {
    const byte = bytes[bytes.length - back]!
    if (byte < 0x80) break
    if (byte < 0xc0) continue
    const length = byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4
    return length > back ? bytes.length - back : bytes.length
  }
  return bytes.length
}
