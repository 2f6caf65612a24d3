/**
 *   absent -> created -> starting -> running -> stopping -> ended
 *                           \___________\__________________/    own exit, failed, timed out, lost
 *
 * `starting` and `stopping` carry a deadline. `created` never rests: its placement is in the same transaction.
 */

import type { Transition } from '../aggregate.js'
import type { WorkerId } from '../ids.js'
import type { SandboxSpec } from './spec.js'

export type SandboxStatus = 'absent' | 'created' | 'starting' | 'running' | 'stopping' | 'ended'

interface Placed {
  spec: SandboxSpec
  workerId: WorkerId
  epoch: number
}

export type Sandbox =
  | { status: 'absent' }
  | { status: 'created'; spec: SandboxSpec }
  | ({ status: 'starting' } & Placed)
  | ({ status: 'running' } & Placed)
  | ({ status: 'stopping'; reason: string; wasRunning: boolean } & Placed)
  | ({
      status: 'ended'
      by: string
      exitCode: number | null
      lateReport: boolean
      cleanedUp: boolean
    } & Placed)

const TERMINALS_ANYWHERE = [
  'SandboxFinished',
  'SandboxTerminated',
  'SandboxTimedOut',
  'SandboxFailed',
  'SandboxLost',
]

/** Every legal transition. A worker may report an end before, or without, a start. */
export const SANDBOX_TRANSITIONS: readonly Transition<SandboxStatus>[] = [
  { from: 'absent', event: 'SandboxCreated', to: 'created' },
  { from: 'created', event: 'SandboxPlaced', to: 'starting' },
  { from: 'starting', event: 'SandboxStarted', to: 'running' },
  { from: 'starting', event: 'SandboxStopRequested', to: 'stopping' },
  { from: 'running', event: 'SandboxStopRequested', to: 'stopping' },
  // A start that was already under way when the stop was asked for is still recorded.
  { from: 'stopping', event: 'SandboxStarted', to: 'stopping' },
  ...(['starting', 'running', 'stopping'] as const).flatMap((from) =>
    TERMINALS_ANYWHERE.map((event) => ({ from, event, to: 'ended' as const })),
  ),
  ...(['starting', 'running', 'stopping'] as const).flatMap((status) =>
    ['SandboxTagged', 'SandboxNamed'].map((event) => ({ from: status, event, to: status })),
  ),
  // Tags are for whoever looks for it, its name is free again.
  { from: 'ended', event: 'SandboxTagged', to: 'ended' },
  // Facts after the end are legal, and typed.
  { from: 'ended', event: 'SandboxEndReportedLate', to: 'ended' },
  { from: 'ended', event: 'SandboxCleanedUp', to: 'ended' },
]
