/**
 * What the worker asks of a runtime. gVisor implements it now, the VM runtime later; nothing outside a driver's folder
 * knows which one runs.
 *
 * A driver writes an undo record (fsynced) before each thing that it makes on the host, so that a crash at any point
 * leaves nothing without an owner; `destroy` runs what is left of them and is safe to call at any time, any number
 * of times.
 */

import type { AgentSession, OutputSink } from '#libs/agent-client'
import type { SandboxId, SandboxSpec } from '#libs/domain'

export interface RuntimeRequest {
  sandboxId: SandboxId
  epoch: number
  tenant: string
  spec: SandboxSpec
  /** The directory of this sandbox's records; the driver keeps its own state in `<dir>/runtime`. */
  dir: string
  /** Receives what the agent reads from execs; the driver only hands it to the agent session. */
  sink: OutputSink
  /** Called by the agent session for each ended exec, the main process (`main`) included. */
  onExecExit: ConstructorParameters<typeof AgentSession>[0]['onExit']
}

/** Why the sandbox's own processes are gone, from the kernel's and the runtime's evidence, not from guesswork. */
export type RuntimeExit = { kind: 'gone'; detail: string } | { kind: 'out-of-memory' }

/** A volume as it was mounted at the start; a reload moves it to another slot, which its caller keeps account of. */
export interface MountedVolume {
  volumeId: SandboxSpec['volumes'][number]['volumeId']
  version: number
  /** The pool's name of the copy, below the sandbox's directory of mount slots. */
  slot: string
  /** Inside the sandbox. */
  path: string
  readOnly: boolean
}

export interface RunningSandbox {
  readonly sandboxId: SandboxId
  readonly epoch: number
  readonly agent: AgentSession
  readonly volumes: MountedVolume[]
  /** Resolves when the sandbox's runtime process has died; never rejects. */
  readonly exited: Promise<RuntimeExit>
  /** Ends every process of the sandbox: agent first, then the runtime, then the cgroup until it is empty. */
  kill(graceMs: number): Promise<void>
}

/** A failed step of `create`; everything that was made before it is undone already. */
export class StepFailed extends Error {
  override readonly name = 'StepFailed'
  constructor(
    readonly step: string,
    readonly code: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options)
  }
}

export interface RuntimeDriver {
  /** Proves that the runtime works on this host; throws what to do when it does not. */
  probe(): Promise<void>
  /** Runs until the agent has connected and the volumes are bound. @throws StepFailed */
  create(request: RuntimeRequest, signal: AbortSignal): Promise<RunningSandbox>
  /** Finds a sandbox again after a restart of the worker; null: it is not alive any more. */
  adopt(request: RuntimeRequest): Promise<RunningSandbox | null>
  /** Why a sandbox that is not alive has died, from evidence that `destroy` removes. */
  postMortem(sandboxId: SandboxId): Promise<RuntimeExit>
  /** Undoes everything of this sandbox on the host. Resolves with what would not go, to be tried again. */
  destroy(sandboxId: SandboxId, dir: string): Promise<string[]>
  /**
   * Removes what a former life of this worker left that no record owns (netns pool, half-made roots). Called after
   * the adoptions; `known` are the sandboxes that have a record. Creates may run meanwhile.
   */
  sweep(known: ReadonlySet<SandboxId>): Promise<void>
  /** Lets go of all sandboxes without ending any, for a later `adopt`; removes what no sandbox uses. */
  stop(): Promise<void>
}
