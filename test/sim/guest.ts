/**
 * What runs on a host beside the worker's process: sandboxes with their agent and the programs in them. They outlive
 * the worker, and they count: how often each exec was started is what "at most once" is judged by.
 */

import type { AgentExit, ExecOutcome, KnownExec } from '#libs/agent-client'
import { Rejected, type SandboxId } from '#libs/domain'
import type { Disk } from './disk.js'
import type { Host, World } from './world.js'

/** `exit` after ms with code, printing bytes; `missing`: there is no such program. */
export function program(ms: number, code: number, bytes: number): string[] {
  return ['exit', String(ms), String(code), String(bytes)]
}
export const MISSING = ['missing']

interface GuestExec {
  pid: number
  startedAtMs: number
  output: Buffer
  exit: AgentExit | null
  isAcknowledged: boolean
  failed: boolean
}

export class Machine implements Host {
  readonly sandboxes = new Map<SandboxId, Guest>()
  bootedAtMs = 0
  clockSkewMs = 0
  bootId: string

  constructor(
    private readonly world: World,
    readonly name: string,
    readonly disk: Disk,
  ) {
    this.bootId = `boot-${name}-0`
  }

  /** Everything in memory is gone; the disk keeps what was synced. */
  cutPower(): void {
    const { world } = this
    world.trace.add('power cut', this.name)
    for (const guest of this.sandboxes.values()) guest.die('the power was cut')
    this.sandboxes.clear()
    this.disk.cutPower(world.random)
    this.bootedAtMs = world.now
    this.bootId = `boot-${this.name}-${world.now}`
  }
}

export class Guest {
  isAlive = true
  isSilentUntilMs = 0
  detail = ''
  private readonly execs = new Map<string, GuestExec>()
  private readonly deathWatch: (() => void)[] = []
  private readonly exitWatch = new Map<string, (() => void)[]>()

  constructor(
    private readonly world: World,
    readonly sandboxId: SandboxId,
    /** Starts of each exec anywhere: the judge's. */
    private readonly starts: Map<string, number>,
  ) {}

  start(execId: string, argv: readonly string[]): ExecOutcome {
    const known = this.execs.get(execId)
    if (known) return this.outcome(known)
    // The main process has the same id in every sandbox.
    const counted = execId === 'main' ? `main of ${this.sandboxId}` : execId
    this.starts.set(counted, (this.starts.get(counted) ?? 0) + (argv[0] === 'missing' ? 0 : 1))
    this.world.trace.add('start', counted)
    const output = Buffer.alloc(Number(argv[3] ?? 0), counted)
    const exec: GuestExec = {
      pid: this.execs.size + 2,
      startedAtMs: this.world.now,
      output,
      exit: null,
      isAcknowledged: false,
      failed: false,
    }
    this.execs.set(execId, exec)
    if (argv[0] === 'missing') exec.failed = true
    else this.world.after(Number(argv[1]), () => this.exit(execId, Number(argv[2]), null), null)
    return this.outcome(exec)
  }

  state(execId: string): KnownExec {
    const known = this.execs.get(execId)
    return known ? this.outcome(known) : { state: 'unknown' }
  }

  outputOf(execId: string): Buffer {
    return this.execs.get(execId)!.output
  }

  /** Started here, and its exit not acknowledged. */
  get openIds(): string[] {
    return [...this.execs].filter(([, exec]) => !exec.failed && !exec.isAcknowledged).map(([id]) => id)
  }

  acknowledge(execId: string): void {
    this.execs.get(execId)!.isAcknowledged = true
  }

  /** Resolves by a call once the program has ended; at once when it has. */
  onExit(execId: string, tell: (exit: AgentExit) => void): void {
    const exec = this.execs.get(execId)!
    if (exec.exit) tell(exec.exit)
    else this.exitWatch.set(execId, [...(this.exitWatch.get(execId) ?? []), () => tell(exec.exit!)])
  }

  signal(execId: string, signal: number): void {
    const exec = this.execs.get(execId)
    if (!exec) throw new Rejected('EXEC_NOT_FOUND', 'no exec has this id')
    if (exec.exit || exec.failed) throw new Rejected('EXEC_ENDED', 'the program has ended')
    this.world.after(1, () => this.exit(execId, null, signal), null)
  }

  /** SIGKILL to everything inside; then the sandbox is gone. */
  killAll(): void {
    for (const execId of this.execs.keys()) this.exit(execId, null, 9)
  }

  die(detail: string): void {
    if (!this.isAlive) return
    this.isAlive = false
    this.detail = detail
    this.world.trace.add('guest dies', this.sandboxId, detail)
    for (const tell of this.deathWatch) tell()
  }

  onDeath(tell: () => void): void {
    if (this.isAlive) this.deathWatch.push(tell)
    else tell()
  }

  private exit(execId: string, code: number | null, signal: number | null): void {
    const exec = this.execs.get(execId)!
    if (exec.exit || exec.failed || !this.isAlive) return
    const bytes = exec.output.length
    exec.exit = {
      code,
      signal,
      timedOut: false,
      stdoutBytes: bytes,
      stderrBytes: 0,
      stdoutComplete: true,
      stderrComplete: true,
      ranMs: this.world.now - exec.startedAtMs,
    }
    for (const tell of this.exitWatch.get(execId) ?? []) tell()
  }

  private outcome({ pid, startedAtMs, exit, isAcknowledged, failed }: GuestExec): ExecOutcome {
    if (failed) {
      return { state: 'failed', failure: { exitCode: 127, code: 'NOT_FOUND', message: 'no such program' } }
    }
    if (exit && isAcknowledged) return { state: 'exited', exit }
    return { state: 'started', pid, startedAgoMs: this.world.now - startedAtMs }
  }
}
