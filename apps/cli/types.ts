/** What the CLI reads from the API's answers; /openapi.json has all of it. */

export interface Sandbox {
  sandboxId: string
  name: string | null
  state: string
  image: { imageId: string; ref: string }
  command: string[] | null
  createdAt: string
  startedAt: string | null
  endedAt: string | null
  terminalEvent: string | null
  exitCode: number | null
  reason: string | null
  errorCode: string | null
  workerId: string | null
  tags: Record<string, string>
}

export interface OutputSummary {
  bytes: number
  droppedBytes: number
  sha256: string
}

export interface Exec {
  execId: string
  sandboxId: string
  state: string
  argv: string[]
  pty: { rows: number; cols: number } | null
  stdin: 'open' | 'inline' | 'closed'
  requestedAt: string
  startedAt: string | null
  endedAt: string | null
  terminalEvent: string | null
  exitCode: number | null
  reason: string | null
  errorCode: string | null
  mayHaveRun: boolean | null
  stdout: OutputSummary | null
  stderr: OutputSummary | null
}

export interface Event {
  position: number | null
  type: string
  time: string
  actor: string
  commandId: string
  data: Record<string, unknown>
  stream: string
  version: number
}

export interface Image {
  imageId: string
  name: string | null
  state: string
  digest: string | null
  source: { kind: 'import' | 'snapshot'; snapshotId?: string }
  /** Every tenant may start from it. */
  shared: boolean
  replicas: string[]
  createdAt: string
}

export interface Tenant {
  tenant: string
  state: 'active' | 'suspended' | 'removing' | 'removed'
  createdAt: string | null
  /** null: unlimited. */
  limits: Record<string, number | null>
  used: Record<string, number>
}

export interface App {
  appId: string
  name: string | null
  environment: string
  kind: 'deployed' | 'ephemeral'
  description: string
  state: 'running' | 'stopped'
  createdAt: string
  /** That live. */
  sandboxes: number
}

export interface Volume {
  volumeId: string
  name: string
  state: string
  version: number
  createdAt: string
  versions: {
    version: number
    at: string
    sandboxId: string
    trigger: string
    changedPaths: number
    overwritten: string[]
  }[]
}

export interface Worker {
  workerId: string
  state: 'active' | 'cordoned' | 'draining' | 'drained' | 'lost'
  hostname: string | null
  sandboxes: number
  capacity: { cpuMillis: number; memoryBytes: number }
  reserved: { cpuMillis: number; memoryBytes: number }
  poolFreeBytes: number
  heartbeatAgeMs: number
  drainDeadline: string | null
}
