/**
 *   absent -> running -> stopped
 *
 * An app is what clients gather sandboxes under: their names are unique within it, and they end with it. A deployed one
 * lives until it is stopped; an ephemeral one as long as its client beats.
 */

import { type Aggregate, type Decided, knownFrom, type PastEvent, type Transition } from '../aggregate.js'
import { Rejected } from '../errors.js'

export interface AppSpec {
  /** Unique among the running ones of its environment; null: found by its id alone. */
  name: string | null
  environment: string
  kind: 'deployed' | 'ephemeral'
  description: string
}

export type AppStopReason = 'requested' | 'client-disconnected' | 'heartbeat-lost'

export type AppEvent = Decided<'AppCreated', AppSpec> | Decided<'AppStopped', { reason: AppStopReason }>

export type AppStatus = 'absent' | 'running' | 'stopped'
export type App = { status: 'absent' } | ({ status: 'running' | 'stopped' } & AppSpec)

export const APP_TRANSITIONS: readonly Transition<AppStatus>[] = [
  { from: 'absent', event: 'AppCreated', to: 'running' },
  { from: 'running', event: 'AppStopped', to: 'stopped' },
]

/** Clients beat every 15 s: one that misses four beats is gone. */
export const APP_HEARTBEAT_GRACE_MS = 60_000

export type AppCommand =
  | ({ type: 'CreateApp' } & AppSpec)
  | { type: 'StopApp'; reason: AppStopReason }
  /** Its client is there. Leaves no event: there would be more of them than of all else. */
  | { type: 'BeatApp' }

/** Returns what happens, `[]` when it is already so. Throws `Rejected` when a rule forbids it. */
export function decideApp(state: App, command: AppCommand): AppEvent[] {
  if (command.type === 'CreateApp') {
    if (state.status !== 'absent') throw new Rejected('NAME_TAKEN', 'an app with this id exists already')
    const { type: _, ...spec } = command
    return [{ type: 'AppCreated', typeVersion: 1, data: spec }]
  }
  if (state.status === 'absent') throw new Rejected('APP_NOT_FOUND', 'no app has this id')
  if (command.type === 'BeatApp') {
    if (state.status === 'stopped') throw new Rejected('APP_STOPPED', 'the app has been stopped')
    return []
  }
  if (state.status === 'stopped') return []
  return [{ type: 'AppStopped', typeVersion: 1, data: { reason: command.reason } }]
}

export const appAggregate: Aggregate<App> = {
  initial: { status: 'absent' },
  evolve: evolveApp,
  knows: knownFrom(APP_TRANSITIONS),
}

export function evolveApp(state: App, past: PastEvent): App {
  const event = past as unknown as AppEvent
  switch (event.type) {
    case 'AppCreated':
      return { status: 'running', ...event.data }
    case 'AppStopped':
      return state.status === 'absent' ? state : { ...state, status: 'stopped' }
    default:
      return state
  }
}
