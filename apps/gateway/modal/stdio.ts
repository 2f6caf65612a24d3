/** Streams of processes, by byte offsets: a call that was cut off is made again from where it was. */

import { Readable } from 'node:stream'
import { EXEC_TERMINAL_EVENTS, Rejected, SandtrailError } from '#libs/domain'
import type { Gateway } from '../gateway.js'
import { readExec, readSandbox } from '../lookup.js'
import * as output from '../output.js'
import type { ExecView } from '../views/exec.js'
import type { SandboxView } from '../views/sandbox.js'
import { StdioFileDescriptor, type TaskExecStdinWriteStreamRequest } from './gen/task_command_router_pb.js'

export interface Piece {
  data: Uint8Array
  /** Of its first byte. */
  offset: number
}

interface From {
  offset: bigint
  fileDescriptor: StdioFileDescriptor
}

interface Write {
  offset: bigint
  data: Uint8Array
  eof: boolean
}

/** A worker that restarts is back within seconds; then the SDK's own tries begin. */
const WORKER_AWAY_MS_MAX = 30_000
const RETRY_MS = 200
/** An exec that its worker has not heard of yet. */
const KNOWN_MS_MAX = 90_000

/** Until the process has ended and all is sent. @throws Rejected OUTPUT_DROPPED when the first byte is not kept */
export function readOutput(
  gateway: Gateway,
  tenant: string,
  execId: string,
  from: From,
  signal: AbortSignal,
): AsyncGenerator<Piece> {
  return follow(from, signal, (range) => output.outputOfExec(gateway, tenant, execId, range))
}

/** Of the main process; begins later than asked for when the first bytes are not kept. */
export function readMainOutput(
  gateway: Gateway,
  tenant: string,
  sandboxId: string,
  from: From,
  signal: AbortSignal,
): AsyncGenerator<Piece> {
  return follow(from, signal, async (range) => {
    // As it is by then: of one that has ended meanwhile nothing more will come.
    const sandbox = await readSandbox(gateway.db, tenant, sandboxId)
    if (sandbox.command === null) return { body: null, offset: range.offset, complete: true }
    return await output.outputOfMain(gateway, sandbox, range)
  })
}

async function* follow(
  { offset, fileDescriptor }: From,
  signal: AbortSignal,
  open: (range: output.OutputRange) => Promise<output.Output>,
): AsyncGenerator<Piece> {
  const stream = fileDescriptor === StdioFileDescriptor.STDERR ? 'stderr' : 'stdout'
  let at = Number(offset)
  let giveUpAt: number | null = null
  while (!signal.aborted) {
    try {
      const { body, offset: first, complete } = await open({ stream, offset: at, follow: true, signal })
      if (body === null && complete) return
      if (body === null) {
        // It has started, and its worker is about to hear of its streams.
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
        continue
      }
      at = first
      for await (const data of body as AsyncIterable<Buffer>) {
        giveUpAt = null
        // An SDK takes an empty message for an error.
        if (data.length > 0) yield { data, offset: at }
        at += data.length
      }
      return
    } catch (error) {
      if (signal.aborted || !isWorkerAway(error)) throw error
      giveUpAt ??= performance.now() + WORKER_AWAY_MS_MAX
      if (performance.now() > giveUpAt) throw workerAway(error)
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
    }
  }
}

/** Refused by a rule is final; the rest is a worker that restarts, or a connection that broke. */
function isWorkerAway(error: unknown): boolean {
  if (error instanceof Rejected) return false
  return !(error instanceof SandtrailError) || error.code === 'UNAVAILABLE'
}

function workerAway(cause: unknown): SandtrailError {
  if (cause instanceof SandtrailError) return cause
  return new SandtrailError('UNAVAILABLE', 'the connection to the worker was lost', { cause })
}

/** Bytes that were taken before are skipped. An end of file counts wherever the client thinks that it is. */
export async function writeStdin(
  gateway: Gateway,
  tenant: string,
  execId: string,
  write: Write,
  signal: AbortSignal,
): Promise<void> {
  if (write.data.length === 0 && !write.eof) return
  const exec = await readExec(gateway.db, tenant, execId)
  await writeBy((chunk) => put(gateway, exec, chunk, signal), write)
}

/** A stream that is cut off before its end leaves stdin open: it is gone on with by another. */
export async function streamStdin(
  gateway: Gateway,
  messages: AsyncIterable<TaskExecStdinWriteStreamRequest>,
  find: (start: { taskId: string; execId: string }) => Promise<{ tenant: string; execId: string }>,
  signal: AbortSignal,
): Promise<void> {
  const pieces = messages[Symbol.asyncIterator]()
  const first = (await pieces.next()).value?.payload as TaskExecStdinWriteStreamRequest['payload'] | undefined
  if (first?.case !== 'start') {
    throw new Rejected('INVALID_ARGUMENT', 'the first message of the stream must say where it starts')
  }
  const { tenant, execId } = await find(first.value)
  const exec = await readExec(gateway.db, tenant, execId)
  // Bytes on their way can be sent once only, so the worker must know the exec by then.
  await put(gateway, exec, STATUS, signal)
  let ended = false
  async function* bytes() {
    for (;;) {
      const { value, done } = await pieces.next()
      if (done) return
      const { payload } = value as TaskExecStdinWriteStreamRequest
      if (payload.case === 'data') yield payload.value
      if (payload.case === 'end') {
        ended = true
        return
      }
    }
  }
  const body = Readable.from(bytes(), { objectMode: false })
  const offset = Number(first.value.offset)
  const { acceptedTo } = await output.writeStdin(gateway, exec, { offset, eof: false, body, signal })
  if (ended) await put(gateway, exec, { offset: acceptedTo, eof: true, data: EMPTY }, signal)
}

export async function statusOfStdin(
  gateway: Gateway,
  tenant: string,
  execId: string,
  signal: AbortSignal,
): Promise<{ numBytesWritten: bigint; closed: boolean }> {
  const exec = await readExec(gateway.db, tenant, execId)
  const { acceptedTo } = await put(gateway, exec, STATUS, signal)
  return { numBytesWritten: BigInt(acceptedTo), closed: false }
}

/** Resolves with the offset of the next byte; so does a write of nothing. */
export async function writeMainStdin(
  gateway: Gateway,
  sandbox: SandboxView,
  write: Write,
  signal: AbortSignal,
): Promise<number> {
  return await writeBy(({ offset, eof, data }) => {
    const body = Readable.from([Buffer.from(data)])
    return output.writeMainStdin(gateway, sandbox, { offset, eof, body, signal })
  }, write)
}

interface Chunk {
  offset: number
  eof: boolean
  data: Uint8Array
}

const EMPTY = new Uint8Array()
/** Says how far stdin has got, and changes nothing. */
const STATUS: Chunk = { offset: 0, eof: false, data: EMPTY }

/** The bytes, and then the end of file where they have ended. */
async function writeBy(
  send: (chunk: Chunk) => Promise<{ acceptedTo: number }>,
  { offset, data, eof }: Write,
): Promise<number> {
  const bytes = data.length === 0 ? STATUS : { offset: Number(offset), eof: false, data }
  const { acceptedTo } = await send(bytes)
  if (eof) await send({ offset: acceptedTo, eof: true, data: EMPTY })
  return acceptedTo
}

/** Sends bytes that are at hand, again when the worker had not heard of the exec yet. */
async function put(
  gateway: Gateway,
  exec: ExecView,
  { offset, eof, data }: Chunk,
  signal: AbortSignal,
): Promise<{ acceptedTo: number }> {
  const send = () =>
    output.writeStdin(gateway, exec, { offset, eof, body: Readable.from([Buffer.from(data)]), signal })
  try {
    return await send()
  } catch (error) {
    if (!(error instanceof Rejected) || error.code !== 'EXEC_NOT_FOUND') throw error
    const events = ['ExecStarted', ...EXEC_TERMINAL_EVENTS]
    await gateway.waiter.until(exec.execId, events, { timeoutMs: KNOWN_MS_MAX, signal })
    return await send()
  }
}
