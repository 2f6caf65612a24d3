/**
 * What operators want of a worker. Its life (heard, lost) is not in this stream: heartbeats are no events.
 *
 *   active -> cordoned -> draining -> drained
 *      ^---------\___________\___________/   uncordon
 *
 * All but `active` take no new sandbox. `draining` waits for those that run, and with a deadline ends what is left by
 * then; `drained` stays until it is uncordoned.
 */

import { type Aggregate, type Decided, knownFrom, type PastEvent, type Transition } from '../aggregate.js'

export type WorkerEvent =
  | Decided<'WorkerCordoned', { reason: string | null }>
  /** `timeoutMs`: from the event's time; null: what runs may take as long as it likes. */
  | Decided<'WorkerDrainRequested', { reason: string | null; timeoutMs: number | null }>
  | Decided<'WorkerDrained', Record<string, never>>
  | Decided<'WorkerUncordoned', Record<string, never>>

export type WorkerStatus = 'active' | 'cordoned' | 'draining' | 'drained'
export type WorkerIntent =
  | { status: 'active' | 'cordoned' | 'drained' }
  /** ms since 1970. */
  | { status: 'draining'; deadlineMs: number | null }

export const WORKER_TRANSITIONS: readonly Transition<WorkerStatus>[] = [
  { from: 'active', event: 'WorkerCordoned', to: 'cordoned' },
  { from: 'draining', event: 'WorkerCordoned', to: 'cordoned' },
  ...(['active', 'cordoned', 'draining', 'drained'] as const).map((from) => ({
    from,
    event: 'WorkerDrainRequested',
    to: 'draining' as const,
  })),
  { from: 'draining', event: 'WorkerDrained', to: 'drained' },
  ...(['cordoned', 'draining', 'drained'] as const).map((from) => ({
    from,
    event: 'WorkerUncordoned',
    to: 'active' as const,
  })),
]

export type WorkerCommand =
  | { type: 'CordonWorker'; reason: string | null }
  | { type: 'DrainWorker'; reason: string | null; timeoutMs: number | null }
  | { type: 'RecordDrained' }
  | { type: 'UncordonWorker' }

/** Returns what happens, `[]` when it is already so. Never refuses: each is legal in every state. */
export function decideWorker(state: WorkerIntent, command: WorkerCommand): WorkerEvent[] {
  switch (command.type) {
    case 'CordonWorker':
      // Also stops a drain: what runs goes on.
      if (state.status === 'cordoned' || state.status === 'drained') return []
      return [{ type: 'WorkerCordoned', typeVersion: 1, data: { reason: command.reason } }]
    case 'DrainWorker': {
      const { reason, timeoutMs } = command
      return [{ type: 'WorkerDrainRequested', typeVersion: 1, data: { reason, timeoutMs } }]
    }
    case 'RecordDrained':
      if (state.status !== 'draining') return []
      return [{ type: 'WorkerDrained', typeVersion: 1, data: {} }]
    case 'UncordonWorker':
      if (state.status === 'active') return []
      return [{ type: 'WorkerUncordoned', typeVersion: 1, data: {} }]
  }
}

export const workerAggregate: Aggregate<WorkerIntent> = {
  initial: { status: 'active' },
  evolve: evolveWorker,
  knows: knownFrom(WORKER_TRANSITIONS),
}

export function evolveWorker(state: WorkerIntent, past: PastEvent): WorkerIntent {
  const event = past as unknown as WorkerEvent
  switch (event.type) {
    case 'WorkerCordoned':
      return { status: 'cordoned' }
    case 'WorkerDrainRequested': {
      const { timeoutMs } = event.data
      return { status: 'draining', deadlineMs: timeoutMs === null ? null : past.atMs + timeoutMs }
    }
    case 'WorkerDrained':
      return { status: 'drained' }
    case 'WorkerUncordoned':
      return { status: 'active' }
    default:
      return state
  }
}
