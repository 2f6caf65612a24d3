/** The events of a sandbox's stream, version 1 of each. `evolve` and the docs' table know no others. */

import type { Decided } from '../aggregate.js'
import type { VolumeId, WorkerId } from '../ids.js'
import type { SandboxSpec } from './spec.js'

/** A volume's content kept by the worker before the sandbox's end; the syncer makes a version of it. */
export interface StagedVolume {
  volumeId: VolumeId
  commitId: string
}

interface Ending {
  /** What the caller of `wait` gets: own code, 128+signal, 137 terminated or out of memory, 124 timed out. */
  exitCode: number
  staged: StagedVolume[]
}

export type SandboxEvent =
  | Decided<'SandboxCreated', { spec: SandboxSpec }>
  | Decided<'SandboxPlaced', { workerId: WorkerId; epoch: number; startDeadlineMs: number }>
  | Decided<
      'SandboxStarted',
      { workerId: WorkerId; epoch: number; volumes: { volumeId: VolumeId; version: number }[] }
    >
  /** All tags that it has from now on. */
  | Decided<'SandboxTagged', { tags: Record<string, string> }>
  /** One that was created without a name. */
  | Decided<'SandboxNamed', { name: string }>
  | Decided<'SandboxStopRequested', { reason: StopReason; deadlineMs: number }>
  | Decided<'SandboxFinished', Ending & { signal: number | null }>
  | Decided<'SandboxTerminated', Ending>
  | Decided<'SandboxTimedOut', Ending & { reason: 'lifetime' | 'idle' }>
  | Decided<'SandboxFailed', Ending & { step: string; code: string; message: string }>
  | Decided<'SandboxLost', { reason: string }>
  /** A lost sandbox's worker came back and told how it really ended; what it had staged is not lost. */
  | Decided<'SandboxEndReportedLate', { ending: string; staged: StagedVolume[] }>
  | Decided<'SandboxCleanedUp', { leftovers: string[] }>

/** Why a stop was asked for by the control plane. Lifetime and idle are the worker's own. */
export type StopReason = 'terminate' | 'start-deadline' | 'drain' | 'tenant' | 'app-stopped'

/** Exactly one of these is in every ended sandbox's stream. */
export const SANDBOX_TERMINAL_EVENTS = [
  'SandboxFinished',
  'SandboxTerminated',
  'SandboxTimedOut',
  'SandboxFailed',
  'SandboxLost',
] as const
