import type { AgentExit, ExecFailure } from './messages.js'

export type OutputStreamName = 'stdout' | 'stderr'

/** Where output goes: the worker's spool. */
export interface OutputSink {
  /**
   * Takes the bytes of one stream that begin at `offset`; calls for one stream come one after the other and without
   * a gap. When it resolves, the bytes must survive the death of this process: only then the agent lets them go.
   * A rejection is tried again, and holds the program back meanwhile.
   */
  append(execId: string, stream: OutputStreamName, offset: number, data: Buffer): Promise<void> | void
  /** Every exec whose output is taken, with the offset of the byte that each stream needs next. */
  durableOffsets(): Promise<Record<string, { stdout: number; stderr: number }>>
}

export interface ExecRequest {
  execId: string
  /** The program, looked for in `env.PATH`, and its arguments. */
  argv: string[]
  /** The whole environment. PATH, HOME and, with a terminal, TERM get a default where they are missing. */
  env?: Record<string, string>
  /** Default `/`. */
  cwd?: string | null
  /** `name`, `uid`, `name:group` or `uid:gid`, by the guest's own files. Default: root. */
  user?: string | null
  /** A terminal: its output is all `stdout`. */
  pty?: { rows: number; cols: number } | null
  /** `open`: bytes come by `writeStdin`; `closed`: the end of file at once. */
  stdin: 'open' | 'closed'
  /** From the start of the process; then the agent kills its process group. */
  timeoutMs?: number | null
}

/** `exited`: it ended and its exit was acknowledged before. `failed`: it never ran and never will. */
export type ExecOutcome =
  | { state: 'started'; pid: number; startedAgoMs: number }
  | { state: 'exited'; exit: AgentExit }
  | { state: 'failed'; failure: ExecFailure }

/** `unknown`: this agent never got the exec, and none that was sent on an earlier connection will still arrive. */
export type KnownExec = ExecOutcome | { state: 'unknown' }

export interface AgentInfo {
  /** Changes only if the agent itself was started anew, and with it everything inside. */
  bootId: string
  version: string
}

export interface Disconnection {
  /** `CLOSED`, `REPLACED`, `STOPPED`, or what the agent did that it may not. */
  code: string
  message: string
}

/** What a pino logger offers; payloads and secrets are never given to it. */
export interface AgentLog {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

export interface AgentSessionOptions {
  /** The socket to listen on; at most 107 bytes, in a directory of this sandbox alone. */
  socketPath: string
  /** What the agent was given in its environment. */
  token: string
  sink: OutputSink
  /**
   * Called for each ended exec after all of its output was taken by the sink, and again after each reconnect until
   * `acknowledgeExit`.
   */
  onExit: (execId: string, exit: AgentExit) => Promise<void> | void
  onConnected?: (info: AgentInfo) => void
  onDisconnected?: (reason: Disconnection) => void
  log: AgentLog
}
