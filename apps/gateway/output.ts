/** Output, stdin and window size of processes: from and to the worker that has them. */

import type { IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { DATA_PLANE, MAIN_EXEC } from '#libs/contract'
import { EXEC_TERMINAL_EVENTS, Rejected, SANDBOX_TERMINAL_EVENTS, SandtrailError } from '#libs/domain'
import type { Gateway } from './gateway.js'
import { readExec, readSandbox } from './lookup.js'
import type { ExecView } from './views/exec.js'
import type { SandboxView } from './views/sandbox.js'

export interface OutputRange {
  stream: 'stdout' | 'stderr'
  /** Of the first byte wanted. */
  offset: number
  /** Until the process has ended and all is sent; else what is there now. */
  follow: boolean
  /** Bytes at most. */
  limit?: number
  signal?: AbortSignal
}

export interface Output {
  /** null: there is nothing and never will be. */
  body: IncomingMessage | null
  /** Of the first byte in `body`. */
  offset: number
  /** The stream had ended already when the answer began. */
  complete: boolean
}

/** A worker that has not heard of an exec yet hears of it within its start deadline. */
const KNOWN_MS_MAX = 90_000
/** An answer that is waited for in one call. */
const SHORT_BYTES_MAX = 64 * 1024

interface Process {
  sandboxId: string
  workerId: string | null
  /** As the data plane calls it. */
  exec: string
}

type Placement = Process & { workerId: string }

/** Bytes for a process, from an offset of its stdin on. */
export interface StdinChunk {
  offset: number
  /** Nothing comes after them. */
  eof: boolean
  body: Readable
  signal?: AbortSignal
}

/** What it means that a worker does not know a process: it will, it wrote nothing so far, it never wrote anything. */
type Unknown = 'ask-again' | 'nothing-yet' | 'nothing'

/** Output of the sandbox's main process. @throws Rejected INVALID_ARGUMENT when it has none */
export async function outputOfMain(
  gateway: Gateway,
  sandbox: SandboxView,
  range: OutputRange,
): Promise<Output> {
  if (sandbox.command === null) {
    throw new Rejected('INVALID_ARGUMENT', `sandbox ${sandbox.sandboxId} was created without a command`, {
      hint: 'the output of an exec is read by the id of the exec',
    })
  }
  const { sandboxId, workerId } = sandbox
  return await openOutput(gateway, { sandboxId, workerId, exec: MAIN_EXEC }, range, async (mayWait) => {
    if (sandbox.endedAt !== null) return 'nothing'
    if (!mayWait) return 'nothing-yet'
    const events = ['SandboxStarted', ...SANDBOX_TERMINAL_EVENTS]
    await gateway.waiter.until(sandboxId, events, { timeoutMs: KNOWN_MS_MAX, signal: range.signal })
    return 'ask-again'
  })
}

/** Output of an exec, also of one that the worker has not heard of yet. */
export async function outputOfExec(
  gateway: Gateway,
  tenant: string,
  execId: string,
  range: OutputRange,
): Promise<Output> {
  const { db, waiter } = gateway
  const { sandboxId, state, [range.stream]: written } = await readExec(db, tenant, execId)
  // Nothing was written, or it never ran: its worker need not be asked.
  if (state === 'ended' && (written?.bytes ?? 0) === 0) {
    return { body: null, offset: range.offset, complete: true }
  }
  const { workerId } = await readSandbox(db, tenant, sandboxId)
  return await openOutput(gateway, { sandboxId, workerId, exec: execId }, range, async (mayWait) => {
    const exec = await readExec(db, tenant, execId)
    if (exec.state === 'ended') {
      if ((exec[range.stream]?.bytes ?? 0) === 0) return 'nothing'
      throw new Rejected('OUTPUT_DROPPED', `the output of exec ${execId} is not kept any more`)
    }
    if (!mayWait) return 'nothing-yet'
    await waiter.until(execId, ['ExecStarted', ...EXEC_TERMINAL_EVENTS], {
      timeoutMs: KNOWN_MS_MAX,
      signal: range.signal,
    })
    return 'ask-again'
  })
}

async function openOutput(
  gateway: Gateway,
  process: Process,
  { stream, offset, follow, limit, signal }: OutputRange,
  whenUnknown: (mayWait: boolean) => Promise<Unknown>,
): Promise<Output> {
  const { sandboxId, exec } = process
  const query = new URLSearchParams({ offset: String(offset), follow: follow ? '1' : '0' })
  if (limit !== undefined) query.set('limit', String(limit))
  const path = `${DATA_PLANE.output(sandboxId, exec, stream)}?${query}`
  const request = { workerId: workerOf(process), sandboxId, method: 'GET', path, signal } as const
  for (let mayWait = follow; ; mayWait = false) {
    try {
      return toOutput(await gateway.dataPlane.send(request), offset)
    } catch (error) {
      if (!isUnknown(error)) throw error
      const meaning = await whenUnknown(mayWait)
      if (meaning !== 'ask-again') return { body: null, offset, complete: meaning === 'nothing' }
    }
  }
}

function toOutput(answer: IncomingMessage, offset: number): Output {
  return {
    body: answer,
    offset: Number(answer.headers['sandtrail-offset'] ?? offset),
    complete: answer.headers['sandtrail-end'] === '1',
  }
}

function isUnknown(error: unknown): boolean {
  return (
    error instanceof Rejected &&
    (error.code === 'EXEC_NOT_FOUND' || error.code === 'SANDBOX_NOT_FOUND' || error.code === 'NOT_FOUND')
  )
}

/** Sends bytes to an exec's stdin. Resolves when the worker has taken them, at the pace of the process. */
export async function writeStdin(
  gateway: Gateway,
  exec: ExecView,
  input: StdinChunk,
): Promise<{ acceptedTo: number }> {
  if (exec.stdin !== 'open') {
    throw new Rejected('INVALID_ARGUMENT', `exec ${exec.execId} was started without an open stdin`, {
      hint: 'start it with "stdin": "open"',
    })
  }
  return await sendStdin(gateway, await placeOf(gateway, exec), input)
}

async function sendStdin(
  { dataPlane }: Gateway,
  { workerId, sandboxId, exec }: Placement,
  { offset, eof, body, signal }: StdinChunk,
): Promise<{ acceptedTo: number }> {
  const query = new URLSearchParams({ offset: String(offset), eof: eof ? '1' : '0' })
  const answer = await dataPlane.send({
    workerId,
    sandboxId,
    method: 'PUT',
    path: `${DATA_PLANE.stdin(sandboxId, exec)}?${query}`,
    contentType: 'application/octet-stream',
    body,
    signal,
  })
  return await readShort(answer)
}

/** Sends bytes to the stdin of the sandbox's main process, also of one that still starts. */
export async function writeMainStdin(
  gateway: Gateway,
  sandbox: SandboxView,
  input: StdinChunk,
): Promise<{ acceptedTo: number }> {
  const { sandboxId } = sandbox
  if (sandbox.command === null || sandbox.stdin !== 'open') {
    throw new Rejected('INVALID_ARGUMENT', `sandbox ${sandboxId} has no main process with an open stdin`, {
      hint: 'create it with a command and "stdin": "open"',
    })
  }
  await untilMainStarted(gateway, sandbox, input.signal)
  return await sendStdin(gateway, placeOfMain(sandbox), input)
}

/** Tells the main process's terminal its new size. */
export async function resizeMain(
  gateway: Gateway,
  sandbox: SandboxView,
  size: { rows: number; cols: number },
): Promise<void> {
  if (sandbox.command === null || sandbox.pty === null) {
    throw new Rejected('INVALID_ARGUMENT', `the main process of ${sandbox.sandboxId} has no terminal`)
  }
  await untilMainStarted(gateway, sandbox)
  await sendSize(gateway, placeOfMain(sandbox), size)
}

/** Its worker does not know the main process before. What comes of one that has ended, the worker says. */
async function untilMainStarted(
  { waiter }: Gateway,
  { sandboxId, startedAt, endedAt }: SandboxView,
  signal?: AbortSignal,
): Promise<void> {
  if (startedAt !== null || endedAt !== null) return
  const events = ['SandboxStarted', ...SANDBOX_TERMINAL_EVENTS]
  await waiter.until(sandboxId, events, { timeoutMs: KNOWN_MS_MAX, signal })
}

function placeOfMain(sandbox: SandboxView): Placement {
  return { workerId: workerOf(sandbox), sandboxId: sandbox.sandboxId, exec: MAIN_EXEC }
}

/** Tells an exec's terminal its new size. */
export async function resizeExec(
  gateway: Gateway,
  exec: ExecView,
  size: { rows: number; cols: number },
): Promise<void> {
  if (exec.pty === null) throw new Rejected('INVALID_ARGUMENT', `exec ${exec.execId} has no terminal`)
  await sendSize(gateway, await placeOf(gateway, exec), size)
}

async function sendSize(
  { dataPlane }: Gateway,
  { workerId, sandboxId, exec }: Placement,
  size: { rows: number; cols: number },
): Promise<void> {
  const answer = await dataPlane.send({
    workerId,
    sandboxId,
    method: 'POST',
    path: DATA_PLANE.resize(sandboxId, exec),
    contentType: 'application/json',
    body: Buffer.from(JSON.stringify(size)),
  })
  answer.resume()
}

const FIND_WORKER = `
  select data ->> 'workerId' as worker_id
  from events
  where stream = $1 and type = 'SandboxPlaced'
  order by version desc
  limit 1
`

async function placeOf(gateway: Gateway, exec: ExecView): Promise<Placement> {
  const { sandboxId } = exec
  const { rows } = await gateway.db.query<{ worker_id: string }>({
    name: 'find-worker',
    text: FIND_WORKER,
    values: [sandboxId],
  })
  const workerId = workerOf({ sandboxId, workerId: rows[0]?.worker_id ?? null })
  return { workerId, sandboxId, exec: exec.execId }
}

function workerOf({ sandboxId, workerId }: { sandboxId: string; workerId: string | null }): string {
  if (workerId !== null) return workerId
  throw new SandtrailError('UNAVAILABLE', `sandbox ${sandboxId} has not been placed yet`)
}

async function readShort(answer: IncomingMessage): Promise<{ acceptedTo: number }> {
  let text = ''
  answer.setEncoding('utf8')
  for await (const chunk of answer) {
    text += chunk
    if (text.length > SHORT_BYTES_MAX) throw new SandtrailError('INTERNAL', 'the worker answers too much')
  }
  return JSON.parse(text) as { acceptedTo: number }
}

/**
 * One piece of an exec's output for callers without HTTP. `end`: nothing comes after it.
 */
export async function readOutputPiece(
  gateway: Gateway,
  tenant: string,
  reference: string,
  range: { stream: 'stdout' | 'stderr'; offset: number; limit: number },
): Promise<{ data: Buffer; offset: number; end: boolean }> {
  // Looked at first: an end that comes while the bytes are read must not hide what was written after them.
  const exec = await readExec(gateway.db, tenant, reference)
  const output = await outputOfExec(gateway, tenant, exec.execId, { ...range, follow: false })
  const data = output.body === null ? Buffer.alloc(0) : await buffer(output.body)
  const end = exec.state === 'ended' && output.offset + data.length >= (exec[range.stream]?.bytes ?? 0)
  return { data, offset: output.offset, end }
}
