/** What may be asked of a sandbox. Ids, placement and time were found by the edge and come with the command. */

import type { VolumeId, WorkerId } from '../ids.js'
import type { StagedVolume, StopReason } from './events.js'
import type { SandboxSpec } from './spec.js'

/** How a sandbox came to its end, as its worker saw it. */
export type EndingReport =
  | { kind: 'exited'; code: number | null; signal: number | null }
  | { kind: 'stopped' }
  | { kind: 'timed-out'; reason: 'lifetime' | 'idle' }
  | { kind: 'failed'; step: string; code: string; message: string }

interface FromWorker {
  workerId: WorkerId
  epoch: number
}

export type SandboxCommand =
  | { type: 'CreateSandbox'; spec: SandboxSpec; placement: FromWorker }
  | { type: 'TerminateSandbox'; reason: StopReason }
  /** All of them: what is not among these is taken away. */
  | { type: 'TagSandbox'; tags: Record<string, string> }
  | { type: 'NameSandbox'; name: string }
  | ({ type: 'ReportStarted'; volumes: { volumeId: VolumeId; version: number }[] } & FromWorker)
  | ({ type: 'ReportEnded'; ending: EndingReport; staged: StagedVolume[] } & FromWorker)
  | ({ type: 'ReportCleanedUp'; leftovers: string[] } & FromWorker)
  | { type: 'DeclareLost'; epoch: number; reason: string }
