/**
 * Between scheduler and worker. Orders are level-triggered: the request on `wrk.<id>.order` is the fast path, the
 * reply to a heartbeat carries every order that the worker's inventory shows to be missing. Each may come twice.
 */

import type {
  EndingReport,
  ExecEndingReport,
  ExecId,
  ExecSpec,
  ImageId,
  SandboxId,
  SandboxSpec,
  StagedVolume,
  VolumeId,
  VolumeVersion,
  WorkerId,
} from '#libs/domain'

interface ToSandbox {
  tenant: string
  sandboxId: SandboxId
  epoch: number
}

/**
 * Values that never stand in the clear on the broker: JSON of `Secrets`, sealed to the worker's curve key. Null when
 * there are none: sealing costs 3 ms, more than all else of an exec's order.
 */
export type SealedSecrets = string | null
export interface Secrets {
  env: Record<string, string>
  /** base64; only for an exec whose stdin is `inline`. */
  stdin?: string
}

export type Order =
  | ({ kind: 'create'; spec: SandboxSpec; secrets: SealedSecrets } & ToSandbox)
  /** For an epoch that the worker does not know it leaves a tombstone and reports the end. */
  | ({ kind: 'stop'; reason: string } & ToSandbox)
  /** `env` in the secrets is the sandbox's and the exec's, merged. `startByMs` counts from the receipt. */
  | ({ kind: 'exec'; execId: ExecId; spec: ExecSpec; secrets: SealedSecrets; startByMs: number } & ToSandbox)
  /** Its time to start is over: an exec that the worker does not know by now must never start. */
  | ({ kind: 'cancel-exec'; execId: ExecId } & ToSandbox)
  | ({ kind: 'signal'; execId: ExecId; signal: number; signalId: string } & ToSandbox)

/** `known: false` only for `cancel-exec`: it never ran and never will. */
export interface OrderReply {
  ok: true
  known?: boolean
}

/** What a worker saw. Kept in its fsynced outbox, sent first in first out per sandbox until accepted or fenced. */
export type Fact = { factSeq: number; observedAtMs: number } & (
  | { kind: 'sandbox-started'; volumes: { volumeId: VolumeId; version: number }[] }
  | { kind: 'exec-started'; execId: ExecId; pid: number }
  | { kind: 'exec-ended'; execId: ExecId; ending: ExecEndingReport }
  | { kind: 'sandbox-ended'; ending: EndingReport; staged: StagedVolume[] }
  | { kind: 'sandbox-cleaned-up'; leftovers: string[] }
)

/** `ctl.<worker>.report`: some of one sandbox's facts, gapless, oldest first. */
export interface Report {
  tenant: string
  sandboxId: SandboxId
  epoch: number
  facts: Fact[]
}
/** Everything up to `acceptedTo` is committed. `fenced`: this epoch has ended, drop its facts. */
export interface ReportReply {
  ok: true
  acceptedTo: number
  fenced: boolean
}

export interface WorkerInfo {
  hostname: string
  version: string
  runtimes: string[]
  /** `https://host:port` of the data plane and the certificate (PEM) to expect there. */
  dataPlaneUrl: string
  certificate: string
  /** Public curve key (nkeys `X…`) that secrets are sealed to. */
  sealKey: string
}

export interface Heartbeat {
  workerId: WorkerId
  /** Changes with each start of the worker process. */
  incarnation: string
  info: WorkerInfo
  capacity: { cpuMillis: number; memoryBytes: number; diskBytes: number }
  /** Below the watermark the worker takes no new sandbox. */
  poolFreeBytes: number
  sandboxes: {
    sandboxId: SandboxId
    tenant: string
    epoch: number
    state: 'starting' | 'running' | 'ending' | 'ended'
  }[]
  /** Execs that the worker knows and whose end it has not yet reported. */
  openExecs: ExecId[]
}
/** Missing orders, at most 100 and no more than fit into a message; the next heartbeat brings the rest. */
export interface HeartbeatReply {
  ok: true
  orders: Order[]
}

/** A worker says what it has this often; the source is the lease: 30 s of grace are 15 heartbeats. */
export const HEARTBEAT_MS = 2_000

/**
 * `wrk.<id>.task`: pool work for snapshotter and volume-syncer. Idempotent by its ids: a re-send joins the run in
 * flight or gets the finished result. A run of more than 20 s answers `pending` and is asked for again.
 */
export type Task =
  | { kind: 'snapshot'; tenant: string; sandboxId: SandboxId; epoch: number; imageId: ImageId }
  | { kind: 'import-image'; tenant: string; imageId: ImageId; url: string; sha256: string; bytes: number }
  | { kind: 'remove-image'; tenant: string; imageId: ImageId }
  /** With `sandboxId` the live slot is copied first; without, what was staged under `commitId` is merged. */
  | {
      kind: 'commit-volume'
      tenant: string
      volumeId: VolumeId
      commitId: string
      sandboxId: SandboxId | null
      afterVersion: number
    }
  /** `reloadId` is the command's: a reload that is sent again is not a second one. */
  | {
      kind: 'reload-volume'
      tenant: string
      volumeId: VolumeId
      sandboxId: SandboxId
      epoch: number
      reloadId: string
    }
  | { kind: 'remove-volume'; tenant: string; volumeId: VolumeId }
  /** What is past keeping on this host: removed now, or only counted. */
  | { kind: 'prune'; dryRun: boolean }

export type TaskReply = { ok: true; pending: true } | { ok: true; pending: false; result: TaskResult }

export type TaskResult =
  | { kind: 'snapshot'; tookMs: number }
  | { kind: 'import-image' }
  | { kind: 'remove-image' }
  /** Every entry of the volume's log after `afterVersion`, oldest first. */
  | { kind: 'commit-volume'; versions: (VolumeVersion & { trigger: 'commit' | 'sandbox-end' })[] }
  | { kind: 'reload-volume'; fromVersion: number; toVersion: number }
  | { kind: 'remove-volume' }
  | { kind: 'prune'; execs: number; bytes: number; tombstones: number }
