/**
 * Control messages from the agent, checked by hand: each is untrusted, whatever the token says, since the agent
 * lives in the sandbox. docs/agent-protocol.md lists them for both sides.
 */

import { ProtocolViolation } from './violation.js'

export const PROTOCOL = 1
/** Longest exec id. */
export const EXEC_ID_MAX = 128
/** Longest text of an error that is shown to anyone. */
const TEXT_MAX = 600

/** How an exec ended. A stream is complete when its end of file was seen; else a background child held it open. */
export interface AgentExit {
  /** The program's own code, null when a signal ended it. */
  code: number | null
  signal: number | null
  timedOut: boolean
  stdoutBytes: number
  stderrBytes: number
  stdoutComplete: boolean
  stderrComplete: boolean
  /** From the start of the process to its end, in ms. */
  ranMs: number
}

/** It never ran. Exit code 127: not found, 126: found but not to be run so, 125: refused by the agent. */
export interface ExecFailure {
  code: string
  exitCode: number
  message: string
}

export interface StdinState {
  accepted: number
  limit: number
  closed: boolean
}

/** An exec whose exit is not acknowledged: it runs, or its exit is still to be told. */
export interface OpenExec {
  handle: number
  pid: number
  startedAgoMs: number
  ended: boolean
  stdin: StdinState
  /** The first byte of each stream that the agent still has. */
  stdoutFrom: number
  stderrFrom: number
}

export type AgentExecState =
  | { state: 'unknown' }
  | ({ state: 'open' } & OpenExec)
  | { state: 'exited'; exit: AgentExit }
  | { state: 'failed'; failure: ExecFailure }

export interface AgentMount {
  source: string
  target: string
  readOnly: boolean
}

export type FromAgent =
  | { op: 'hello'; protocol: number; version: string; token: string; bootId: string }
  | { op: 'open'; execId: string; open: OpenExec }
  | { op: 'listed' }
  | { op: 'exit'; execId: string; exit: AgentExit }
  | { op: 'done'; id: number; result: unknown }
  | { op: 'refused'; id: number; code: string; message: string }

/** @throws ProtocolViolation unless `payload` is one message of the protocol. */
export function parseMessage(payload: Buffer): FromAgent {
  let value: unknown
  try {
    value = JSON.parse(payload.toString('utf8'))
  } catch {
    throw bad('a control frame is no JSON')
  }
  const fields = asObject(value)
  const op = text(fields, 'op', 20)
  switch (op) {
    case 'hello':
      return {
        op,
        protocol: count(fields, 'protocol'),
        version: text(fields, 'version', 64),
        token: text(fields, 'token', 512),
        bootId: text(fields, 'boot', 64),
      }
    case 'open':
      return { op, execId: text(fields, 'exec', EXEC_ID_MAX), open: parseOpen(fields) }
    case 'listed':
      return { op }
    case 'exit':
      return { op, execId: text(fields, 'exec', EXEC_ID_MAX), exit: parseExit(fields.exit) }
    case 'done':
      return { op, id: count(fields, 'id'), result: fields.result }
    case 'refused':
      return {
        op,
        id: count(fields, 'id'),
        code: text(fields, 'code', 64),
        message: printable(text(fields, 'message', 4096)),
      }
    default:
      throw bad('a control message of an unknown kind')
  }
}

/** The result of `exec` and `state`. @throws ProtocolViolation */
export function parseExecState(value: unknown): AgentExecState {
  const fields = asObject(value)
  const state = text(fields, 'state', 20)
  switch (state) {
    case 'unknown':
      return { state }
    case 'open':
      return { state, ...parseOpen(fields) }
    case 'exited':
      return { state, exit: parseExit(fields.exit) }
    case 'failed': {
      const exitCode = count(fields, 'exitCode')
      if (exitCode < 1 || exitCode > 255) throw bad('a failure has an impossible exit code')
      const message = printable(text(fields, 'message', 4096))
      return { state, failure: { code: printable(text(fields, 'code', 64)), exitCode, message } }
    }
    default:
      throw bad('an exec is in an unknown state')
  }
}

/** The result of `mounts`. @throws ProtocolViolation */
export function parseMounts(value: unknown): AgentMount[] {
  const { mounts } = asObject(value)
  if (!Array.isArray(mounts)) throw bad('the mounts are no list')
  return mounts.map((mount) => {
    const fields = asObject(mount)
    return {
      source: text(fields, 'source', 4096),
      target: text(fields, 'target', 4096),
      readOnly: flag(fields, 'readOnly'),
    }
  })
}

function parseOpen(fields: Record<string, unknown>): OpenExec {
  const stdin = asObject(fields.stdin)
  const handle = count(fields, 'handle')
  const pid = count(fields, 'pid')
  if (handle < 1 || handle >= 2 ** 30) throw bad('a handle is out of range')
  if (pid < 1 || pid >= 2 ** 31) throw bad('a pid is out of range')
  return {
    handle,
    pid,
    startedAgoMs: count(fields, 'startedAgoMs'),
    ended: flag(fields, 'ended'),
    stdin: {
      accepted: count(stdin, 'accepted'),
      limit: count(stdin, 'limit'),
      closed: flag(stdin, 'closed'),
    },
    stdoutFrom: count(fields, 'stdoutFrom'),
    stderrFrom: count(fields, 'stderrFrom'),
  }
}

function parseExit(value: unknown): AgentExit {
  const fields = asObject(value)
  const code = fields.code === null ? null : count(fields, 'code')
  const signal = fields.signal === null ? null : count(fields, 'signal')
  const isOne = (code === null) !== (signal === null)
  if (!isOne || (code ?? 0) > 255 || signal === 0 || (signal ?? 1) > 64) {
    throw bad('an exit has neither a code nor a signal that can be')
  }
  return {
    code,
    signal,
    timedOut: flag(fields, 'timedOut'),
    stdoutBytes: count(fields, 'stdoutBytes'),
    stderrBytes: count(fields, 'stderrBytes'),
    stdoutComplete: flag(fields, 'stdoutComplete'),
    stderrComplete: flag(fields, 'stderrComplete'),
    ranMs: count(fields, 'ranMs'),
  }
}

function asObject(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw bad('a message is no object')
  return value as Record<string, unknown>
}

function text(fields: Record<string, unknown>, key: string, lengthMax: number): string {
  const value = Object.hasOwn(fields, key) ? fields[key] : undefined
  if (typeof value !== 'string' || value.length > lengthMax) throw bad(`the field ${key} is no short text`)
  return value
}

function count(fields: Record<string, unknown>, key: string): number {
  const value = Object.hasOwn(fields, key) ? fields[key] : undefined
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw bad(`the field ${key} is no whole number`)
  return value as number
}

function flag(fields: Record<string, unknown>, key: string): boolean {
  const value = Object.hasOwn(fields, key) ? fields[key] : undefined
  if (typeof value !== 'boolean') throw bad(`the field ${key} is not true or false`)
  return value
}

/** Text from inside, fit for a terminal or a log: no control characters, not long. */
function printable(value: string): string {
  return value.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, '?').slice(0, TEXT_MAX)
}

function bad(message: string): ProtocolViolation {
  return new ProtocolViolation('BAD_MESSAGE', message)
}
