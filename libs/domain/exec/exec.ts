/**
 *   absent -> requested -> running -> ended     exited, failed to start, lost
 *                  \__________________/
 *
 * At most once: `startBy` ends late deliveries; an exec that may or may not have run ends as lost, never again.
 */

import { type Aggregate, type Decided, knownFrom, type PastEvent, type Transition } from '../aggregate.js'
import { Rejected } from '../errors.js'
import type { SandboxId } from '../ids.js'
import { START_DEADLINE_MS } from '../sandbox/index.js'

export interface ExecSpec {
  sandboxId: SandboxId
  /** The epoch of the sandbox that accepted it. */
  epoch: number
  argv: string[]
  workdir: string | null
  user: string | null
  /** Values are in the event's `sealed` part, as is a small stdin. */
  envNames: string[]
  pty: { rows: number; cols: number } | null
  /** `open`: bytes follow on the data plane; `inline`: all of it is in `sealed`; `closed`: end of file at once. */
  stdin: 'open' | 'inline' | 'closed'
  /** From the exec's start; null: as long as its sandbox lives. */
  timeoutMs: number | null
}

/** One output stream at its end: all that the process wrote, of which the oldest `droppedBytes` are gone. */
export interface OutputSummary {
  bytes: number
  droppedBytes: number
  /** sha256 of every byte written, dropped ones included, hex. */
  sha256: string
}

export type ExecEvent =
  | Decided<'ExecRequested', { spec: ExecSpec; startByMs: number }>
  | Decided<'ExecStarted', { pid: number }>
  | Decided<'ExecSignalRequested', { signal: number }>
  | Decided<
      'ExecExited',
      {
        exitCode: number
        signal: number | null
        reason: 'exit' | 'signal' | 'timeout' | 'sandbox-ended'
        stdout: OutputSummary
        stderr: OutputSummary
      }
    >
  /** It never ran: 126 not executable, 127 not found, 125 refused by us. */
  | Decided<'ExecFailed', { exitCode: number; code: string; message: string }>
  | Decided<'ExecLost', { mayHaveRun: boolean; reason: string }>

export const EXEC_TERMINAL_EVENTS = ['ExecExited', 'ExecFailed', 'ExecLost'] as const

/** How long after its acceptance an exec may still start: it may have to wait for all of its sandbox's own start. */
export const EXEC_START_BY_MS = START_DEADLINE_MS + 30_000

export type ExecStatus = 'absent' | 'requested' | 'running' | 'ended'

export type Exec =
  | { status: 'absent' }
  | { status: 'requested' | 'running'; spec: ExecSpec }
  | { status: 'ended'; spec: ExecSpec; by: string; exitCode: number | null }

export const EXEC_TRANSITIONS: readonly Transition<ExecStatus>[] = [
  { from: 'absent', event: 'ExecRequested', to: 'requested' },
  { from: 'requested', event: 'ExecStarted', to: 'running' },
  { from: 'requested', event: 'ExecSignalRequested', to: 'requested' },
  { from: 'running', event: 'ExecSignalRequested', to: 'running' },
  ...(['requested', 'running'] as const).flatMap((from) =>
    EXEC_TERMINAL_EVENTS.map((event) => ({ from, event, to: 'ended' as const })),
  ),
]

export type ExecEndingReport =
  | ({ kind: 'exited' } & Extract<ExecEvent, { type: 'ExecExited' }>['data'])
  | ({ kind: 'failed' } & Extract<ExecEvent, { type: 'ExecFailed' }>['data'])
  | ({ kind: 'lost' } & Extract<ExecEvent, { type: 'ExecLost' }>['data'])

export type ExecCommand =
  | { type: 'RequestExec'; spec: ExecSpec }
  | { type: 'SignalExec'; signal: number }
  | { type: 'ReportExecStarted'; epoch: number; pid: number }
  | { type: 'ReportExecEnded'; epoch: number; ending: ExecEndingReport }

/** Returns what happens, `[]` when it is already so. Throws `Rejected` when a rule forbids it. */
export function decideExec(state: Exec, command: ExecCommand): ExecEvent[] {
  switch (command.type) {
    case 'RequestExec':
      if (state.status !== 'absent') throw new Rejected('NAME_TAKEN', 'an exec with this id exists already')
      return [
        { type: 'ExecRequested', typeVersion: 1, data: { spec: command.spec, startByMs: EXEC_START_BY_MS } },
      ]
    case 'SignalExec':
      return signal(state, command.signal)
    case 'ReportExecStarted':
      fence(state, command.epoch)
      if (state.status !== 'requested') return []
      return [{ type: 'ExecStarted', typeVersion: 1, data: { pid: command.pid } }]
    case 'ReportExecEnded':
      fence(state, command.epoch)
      if (state.status === 'ended') return []
      return [endEvent(command.ending)]
  }
}

function signal(state: Exec, number: number): ExecEvent[] {
  if (state.status === 'absent') throw new Rejected('EXEC_NOT_FOUND', 'no exec has this id')
  if (state.status === 'ended')
    throw new Rejected('EXEC_ENDED', 'the exec has ended, nothing is left to signal')
  if (!Number.isInteger(number) || number < 1 || number > 64) {
    throw new Rejected('INVALID_ARGUMENT', `signal ${number} is not one of 1 to 64`)
  }
  return [{ type: 'ExecSignalRequested', typeVersion: 1, data: { signal: number } }]
}

function endEvent(ending: ExecEndingReport): ExecEvent {
  const { kind, ...data } = ending
  switch (kind) {
    case 'exited':
      return {
        type: 'ExecExited',
        typeVersion: 1,
        data: data as Omit<typeof ending & { kind: 'exited' }, 'kind'>,
      }
    case 'failed':
      return {
        type: 'ExecFailed',
        typeVersion: 1,
        data: data as Omit<typeof ending & { kind: 'failed' }, 'kind'>,
      }
    case 'lost':
      return {
        type: 'ExecLost',
        typeVersion: 1,
        data: data as Omit<typeof ending & { kind: 'lost' }, 'kind'>,
      }
  }
}

function fence(state: Exec, epoch: number): void {
  if (state.status === 'absent') throw new Rejected('EXEC_NOT_FOUND', 'no exec has this id')
  if (state.spec.epoch !== epoch) {
    throw new Rejected('STALE_EPOCH', `the exec belongs to epoch ${state.spec.epoch}, not ${epoch}`)
  }
}

export const execAggregate: Aggregate<Exec> = {
  initial: { status: 'absent' },
  evolve: evolveExec,
  knows: knownFrom(EXEC_TRANSITIONS),
}

export function evolveExec(state: Exec, past: PastEvent): Exec {
  const event = past as unknown as ExecEvent
  if (event.type === 'ExecRequested') return { status: 'requested', spec: event.data.spec }
  if (state.status === 'absent') return state
  const { spec } = state
  switch (event.type) {
    case 'ExecStarted':
      return { status: 'running', spec }
    case 'ExecSignalRequested':
      return state
    case 'ExecExited':
    case 'ExecFailed':
      return { status: 'ended', spec, by: event.type, exitCode: event.data.exitCode }
    case 'ExecLost':
      return { status: 'ended', spec, by: event.type, exitCode: null }
  }
}
