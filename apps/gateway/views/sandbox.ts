/** A sandbox as callers see it: the domain's state, and what its events tell of when and why. */

import {
  SANDBOX_TERMINAL_EVENTS,
  type SandboxEvent,
  type SandboxSpec,
  SPEC_BEFORE,
  sandboxAggregate,
} from '#libs/domain'
import { type RecordedEvent, upcast } from '#libs/event-store'

/** Times are RFC 3339 in UTC, sizes bytes, durations milliseconds. */
export interface SandboxView extends Required<SandboxSpec> {
  sandboxId: string
  state: string
  workerId: string | null
  epoch: number | null
  createdAt: string
  startedAt: string | null
  endedAt: string | null
  /** Name of the terminal event; null while the sandbox lives. */
  terminalEvent: string | null
  exitCode: number | null
  /** Why it ended, in words; null while it lives or when it simply exited. */
  reason: string | null
  /** Code of a failure (`OUT_OF_MEMORY`, `DEADLINE_EXCEEDED` ...). */
  errorCode: string | null
  cleanedUp: boolean
  /** Of the newest event in this view. */
  version: number
}

/** Tells an idle end from that of the lifetime. */
export const IDLE_REASON = 'idle for too long'

const TERMINAL: ReadonlySet<string> = new Set(SANDBOX_TERMINAL_EVENTS)

/** Folds the events of one sandbox's stream, oldest first; null when they do not begin one. */
export function sandboxView(events: RecordedEvent[]): SandboxView | null {
  const [first] = events
  if (first === undefined) return null
  let state = sandboxAggregate.initial
  let startedAt: string | null = null
  let end: { at: string; event: SandboxEvent } | null = null
  for (const recorded of events) {
    const event = upcast(recorded)
    state = sandboxAggregate.evolve(state, event)
    if (event.type === 'SandboxStarted') startedAt = recorded.at.toISOString()
    if (TERMINAL.has(event.type)) {
      end = { at: recorded.at.toISOString(), event: event as unknown as SandboxEvent }
    }
  }
  if (state.status === 'absent') return null
  const placed = state.status === 'created' ? null : state
  return {
    sandboxId: first.stream,
    state: state.status,
    ...SPEC_BEFORE,
    ...state.spec,
    workerId: placed?.workerId ?? null,
    epoch: placed?.epoch ?? null,
    createdAt: first.at.toISOString(),
    startedAt,
    endedAt: end?.at ?? null,
    terminalEvent: end?.event.type ?? null,
    exitCode: state.status === 'ended' ? state.exitCode : null,
    ...cause(end?.event),
    cleanedUp: state.status === 'ended' && state.cleanedUp,
    version: events.at(-1)?.version ?? 0,
  }
}

function cause(event: SandboxEvent | undefined): { reason: string | null; errorCode: string | null } {
  switch (event?.type) {
    case 'SandboxFinished': {
      const { signal } = event.data
      return { reason: signal === null ? null : `killed by signal ${signal}`, errorCode: null }
    }
    case 'SandboxTerminated':
      return { reason: 'terminated on request', errorCode: null }
    case 'SandboxTimedOut': {
      const reason = event.data.reason === 'idle' ? IDLE_REASON : 'its lifetime was over'
      return { reason, errorCode: null }
    }
    case 'SandboxFailed':
      return { reason: `${event.data.step}: ${event.data.message}`, errorCode: event.data.code }
    case 'SandboxLost':
      return { reason: event.data.reason, errorCode: 'UNAVAILABLE' }
    default:
      return { reason: null, errorCode: null }
  }
}
