/** An exec as callers see it. */

import {
  EXEC_TERMINAL_EVENTS,
  type ExecEvent,
  type ExecSpec,
  execAggregate,
  type OutputSummary,
} from '#libs/domain'
import { type RecordedEvent, upcast } from '#libs/event-store'

export interface ExecView extends ExecSpec {
  execId: string
  state: 'requested' | 'running' | 'ended'
  requestedAt: string
  startedAt: string | null
  endedAt: string | null
  /** Inside the sandbox. */
  pid: number | null
  terminalEvent: string | null
  /** Own code, 128+signal, 124 timed out, 126 or 127 never ran; null while it runs or when it was lost. */
  exitCode: number | null
  signal: number | null
  reason: string | null
  errorCode: string | null
  /** Of a lost exec: it may have run. */
  mayHaveRun: boolean | null
  stdout: OutputSummary | null
  stderr: OutputSummary | null
  version: number
}

const TERMINAL: ReadonlySet<string> = new Set(EXEC_TERMINAL_EVENTS)

/** Folds the events of one exec's stream, oldest first; null when they do not begin one. */
export function execView(events: RecordedEvent[]): ExecView | null {
  const [first] = events
  if (first === undefined) return null
  let state = execAggregate.initial
  let started: { at: string; pid: number } | null = null
  let end: { at: string; event: ExecEvent } | null = null
  for (const recorded of events) {
    const past = upcast(recorded)
    const event = past as unknown as ExecEvent
    const at = recorded.at.toISOString()
    state = execAggregate.evolve(state, past)
    if (event.type === 'ExecStarted') started = { at, pid: event.data.pid }
    if (TERMINAL.has(event.type)) end = { at, event }
  }
  if (state.status === 'absent') return null
  return {
    execId: first.stream,
    state: state.status,
    ...state.spec,
    requestedAt: first.at.toISOString(),
    startedAt: started?.at ?? null,
    endedAt: end?.at ?? null,
    pid: started?.pid ?? null,
    terminalEvent: end?.event.type ?? null,
    exitCode: state.status === 'ended' ? state.exitCode : null,
    ...outcome(end?.event),
    version: events.at(-1)?.version ?? 0,
  }
}

type Outcome = Pick<ExecView, 'signal' | 'reason' | 'errorCode' | 'mayHaveRun' | 'stdout' | 'stderr'>

function outcome(event: ExecEvent | undefined): Outcome {
  const none = { signal: null, reason: null, errorCode: null, mayHaveRun: null, stdout: null, stderr: null }
  switch (event?.type) {
    case 'ExecExited': {
      const { signal, reason, stdout, stderr } = event.data
      return { ...none, signal, reason, stdout, stderr }
    }
    case 'ExecFailed':
      return { ...none, reason: event.data.message, errorCode: event.data.code }
    case 'ExecLost':
      return { ...none, reason: event.data.reason, errorCode: 'EXEC_LOST', mayHaveRun: event.data.mayHaveRun }
    default:
      return none
  }
}
