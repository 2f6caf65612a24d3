/** Folds a sandbox's events into its state. Never refuses: what is in the log has happened. */

import { type Aggregate, knownFrom, type PastEvent } from '../aggregate.js'
import type { SandboxEvent } from './events.js'
import { SANDBOX_TRANSITIONS, type Sandbox } from './state.js'

export const sandboxAggregate: Aggregate<Sandbox> = {
  initial: { status: 'absent' },
  evolve: evolveSandbox,
  knows: knownFrom(SANDBOX_TRANSITIONS),
}

export function evolveSandbox(state: Sandbox, past: PastEvent): Sandbox {
  const event = past as unknown as SandboxEvent
  if (event.type === 'SandboxCreated') return { status: 'created', spec: event.data.spec }
  if (state.status === 'absent') return state
  if (event.type === 'SandboxPlaced') {
    const { workerId, epoch } = event.data
    return { status: 'starting', spec: state.spec, workerId, epoch }
  }
  if (state.status === 'created') return state
  const { spec, workerId, epoch } = state
  const placed = { spec, workerId, epoch }
  const fresh = { lateReport: false, cleanedUp: false }

  switch (event.type) {
    case 'SandboxStarted':
      return state.status === 'stopping' ? { ...state, wasRunning: true } : { status: 'running', ...placed }
    case 'SandboxTagged':
      return { ...state, spec: { ...spec, tags: event.data.tags } }
    case 'SandboxNamed':
      return { ...state, spec: { ...spec, name: event.data.name } }
    case 'SandboxStopRequested': {
      const wasRunning = state.status === 'running'
      return { status: 'stopping', reason: event.data.reason, wasRunning, ...placed }
    }
    case 'SandboxFinished':
    case 'SandboxTerminated':
    case 'SandboxTimedOut':
    case 'SandboxFailed':
      return { status: 'ended', by: event.type, exitCode: event.data.exitCode, ...fresh, ...placed }
    case 'SandboxLost':
      return { status: 'ended', by: event.type, exitCode: null, ...fresh, ...placed }
    case 'SandboxEndReportedLate':
      return state.status === 'ended' ? { ...state, lateReport: true } : state
    case 'SandboxCleanedUp':
      return state.status === 'ended' ? { ...state, cleanedUp: true } : state
  }
}
