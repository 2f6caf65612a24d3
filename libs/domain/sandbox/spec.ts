/** What a sandbox is asked to be. Stored in `SandboxCreated`; values of env are never in it, only names. */

import type { AppId, ImageId, VolumeId } from '../ids.js'

export interface Resources {
  /** Thousandths of a core that are reserved at placement. */
  cpuMillis: number
  /** Reserved at placement and never overcommitted; also the hard limit inside. */
  memoryBytes: number
  /** Reserved at placement. */
  diskBytes: number
}

export interface VolumeMount {
  volumeId: VolumeId
  name: string
  /** Absolute path inside the sandbox. */
  path: string
  readOnly: boolean
  /** A fixed, older version (read-only), or null for the newest committed when the sandbox starts. */
  version: number | null
}

export interface SandboxSpec {
  runtime: 'gvisor'
  image: { imageId: ImageId; ref: string }
  /** The main process; null: the sandbox lives until it is stopped or its time is up. */
  command: string[] | null
  workdir: string | null
  user: string | null
  /** Values are in the event's `sealed` part. */
  envNames: string[]
  resources: Resources
  /** Hard limit of CPU in thousandths of a core; null: the worker's own. */
  cpuLimitMillis: number | null
  /** Hard quota of the root filesystem in bytes. */
  diskLimitBytes: number
  /** Lifetime from the start of the sandbox. */
  timeoutMs: number
  /** No exec, stdin or connection for so long ends the sandbox; null: never. */
  idleTimeoutMs: number | null
  network: 'none' | 'open'
  volumes: VolumeMount[]
  name: string | null
  tags: Record<string, string>
  /** These three are absent in what older releases recorded, and mean what `SPEC_BEFORE` says then. */
  appId?: AppId | null
  /** Of the main process. `open`: bytes follow on the data plane; `closed`: it is at its end at once. */
  stdin?: 'open' | 'closed'
  /** The terminal of the main process. */
  pty?: { rows: number; cols: number } | null
}

export const SPEC_BEFORE = { appId: null, stdin: 'closed', pty: null } as const

/** Defaults and limits; the sources are the architecture's and Modal's own values. */
export const SANDBOX_LIMITS = {
  cpuMillisDefault: 125,
  memoryBytesDefault: 128 * 1024 ** 2,
  diskBytesDefault: 1024 ** 3,
  diskLimitBytesDefault: 512 * 1024 ** 3,
  timeoutMsDefault: 300_000,
  timeoutMsMax: 24 * 3_600_000,
} as const

/**
 * A placed sandbox that has not started by then is told to stop. A start takes below half a second; the rest is for its
 * turn on a busy worker, which makes a few at a time: one that waits is queued, not failing.
 */
export const START_DEADLINE_MS = 300_000
/** How long a stop may take before it is asked for again; the worker kills after 10 s. */
export const STOP_DEADLINE_MS = 30_000
