/** The durable timers that the scheduler sets in its appends; what they do is in timer-handlers.ts. */

import {
  APP_HEARTBEAT_GRACE_MS,
  type AppId,
  EXEC_START_BY_MS,
  type ExecId,
  type SandboxId,
  START_DEADLINE_MS,
  STOP_DEADLINE_MS,
} from '#libs/domain'
import type { TimerToSet } from '#libs/event-store'

/** Given to the delivery of a signal before it is tried again. */
const SIGNAL_RETRY_MS = 2_000

export function startTimer(sandboxId: SandboxId): TimerToSet {
  return {
    key: `${sandboxId}:start`,
    afterMs: START_DEADLINE_MS,
    kind: 'sandbox-start-deadline',
    payload: { sandboxId },
  }
}

export function stopTimer(sandboxId: SandboxId): TimerToSet {
  return {
    key: `${sandboxId}:stop`,
    afterMs: STOP_DEADLINE_MS,
    kind: 'sandbox-stop-deadline',
    payload: { sandboxId },
  }
}

export function execStartTimer(execId: ExecId): TimerToSet {
  return {
    key: `${execId}:start`,
    afterMs: EXEC_START_BY_MS,
    kind: 'exec-start-deadline',
    payload: { execId },
  }
}

export function heartbeatTimer(appId: AppId): TimerToSet {
  const payload = { appId }
  return { key: `${appId}:heartbeat`, afterMs: APP_HEARTBEAT_GRACE_MS, kind: 'app-heartbeat', payload }
}

export function signalTimer(execId: ExecId, signal: number, signalId: string): TimerToSet {
  const payload = { execId, signal, signalId }
  return { key: `${execId}:signal:${signalId}`, afterMs: SIGNAL_RETRY_MS, kind: 'exec-signal', payload }
}
