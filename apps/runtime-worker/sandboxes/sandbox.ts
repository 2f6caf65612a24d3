/**
 * One sandbox's life on this host, from the accepted order to the last trace removed.
 *
 *   starting -> running -> ending -> ended -> gone
 *        \__________________/   stopped, timed out, exited, failed, died
 *
 * Each step is in the journal before it is done, so that a restart goes on where it was. Whatever ends a sandbox,
 * there is one way out: `end`.
 */

import { type Heartbeat, MAIN_EXEC } from '#libs/contract'
import {
  type EndingReport,
  type ExecEndingReport,
  type ExecSpec,
  type SandboxId,
  type SandboxSpec,
  SPEC_BEFORE,
  type StagedVolume,
} from '#libs/domain'
import { failpoint } from '#libs/failpoint'
import { type Log, traced } from '#libs/service'
import { bootId } from '../boot-clock.js'
import { type ExecSecrets, Execs } from '../execs/execs.js'
import { createStepSeconds } from '../metrics.js'
import type { FactSource, Outbox } from '../outbox/outbox.js'
import {
  type RunningSandbox,
  type RuntimeDriver,
  type RuntimeExit,
  type RuntimeRequest,
  StepFailed,
} from '../runtime.js'
import type { Spool } from '../spool/spool.js'
import { AgentWatch } from './agent-watch.js'
import { finishSandbox } from './ending.js'
import { Journal } from './journal.js'
import { Lifetime } from './lifetime.js'
import type { SandboxRecord } from './record.js'

export type SandboxState = Heartbeat['sandboxes'][number]['state']

export interface SandboxDeps {
  driver: RuntimeDriver
  spool: Spool
  outbox: Outbox
  log: Log
  /** Resolves when something new may be made on this host. */
  ready(): Promise<void>
  /** Keeps what was written to the volumes. Idempotent; asked only for a sandbox that has run. */
  stageVolumes(sandbox: Sandbox): Promise<StagedVolume[]>
  /** Nothing of it is left, neither on the host nor to report. */
  onGone(sandbox: Sandbox): Promise<void>
}

export class Sandbox implements FactSource {
  readonly sandboxId: SandboxId
  readonly epoch: number
  readonly tenant: string
  readonly journal: Journal
  readonly execs: Execs
  readonly log: Log
  /** Null for a tombstone, as `spec`. */
  readonly lifetime: Lifetime | null
  readonly spec: SandboxSpec | null
  running: RunningSandbox | null = null
  /** Resolves when create or adopt has come to its end, whatever that was; never rejects. */
  settled: Promise<void> = Promise.resolve()
  private readonly abort = new AbortController()
  private agentWatch: AgentWatch | null = null
  private finishing: Promise<void> | null = null
  private locked: Promise<unknown> = Promise.resolve()

  constructor(
    readonly record: SandboxRecord,
    readonly dir: string,
    readonly deps: SandboxDeps,
  ) {
    this.sandboxId = record.sandboxId
    this.epoch = record.epoch
    this.tenant = record.tenant
    this.spec = record.spec
    this.log = deps.log.child({ sandboxId: this.sandboxId, epoch: this.epoch, tenant: this.tenant })
    this.journal = Journal.open(dir)
    this.execs = new Execs({
      sandboxId: this.sandboxId,
      journal: this.journal,
      spool: deps.spool,
      log: this.log,
      mayHaveForgotten: () => record.bootId !== bootId(),
      onMainEnded: (ending) => this.end(causeFromMain(ending)),
      onActivity: () => this.lifetime?.touch(),
    })
    const hasOpenExecs = () => this.execs.openIds.length > 0
    const onTimeUp = (reason: 'lifetime' | 'idle') => this.end({ kind: 'timed-out', reason })
    this.lifetime = this.spec && new Lifetime(this.spec, this.journal, hasOpenExecs, onTimeUp)
    deps.outbox.attach(this)
  }

  get state(): SandboxState {
    const { ended, cause, runningSince } = this.journal.state
    if (ended) return 'ended'
    if (cause !== null) return 'ending'
    return runningSince === null ? 'starting' : 'running'
  }

  /** Begins the life; the order is acknowledged before it is done. */
  start(secrets: ExecSecrets): void {
    this.settled = this.create(secrets).catch((error) => this.end(causeFromStart(error)))
  }

  /** Goes on with the life that an earlier worker process began. */
  resume(): void {
    this.settled = this.adopt().catch((err) => {
      this.log.error({ err }, 'sandbox cannot be taken up')
      this.end(NOT_ADOPTED)
    })
  }

  /**
   * The first cause counts. Everything else follows by itself, also over restarts. Never throws: it is called from
   * timers and by processes that end. The cause is on the disk after a `sync` of the journal.
   */
  end(cause: EndingReport): void {
    if (this.journal.state.cause === null) {
      this.journal.note({ kind: 'ending', cause })
      this.log.info(
        { cause: cause.kind, ...('code' in cause ? { code: cause.code } : {}) },
        'sandbox is ending',
      )
    }
    this.lifetime?.stop()
    this.agentWatch?.stop()
    this.abort.abort()
    this.finishing ??= finishSandbox(this)
  }

  onFenced(): void {
    this.end({ kind: 'stopped' })
  }

  /** One at a time: a snapshot of the sandbox is not overtaken by its end. */
  lock<T>(work: () => Promise<T>): Promise<T> {
    const done = this.locked.then(work)
    this.locked = done.catch(() => {})
    return done
  }

  /** Resolves when nothing of it is under way that another process could not go on with. */
  async handedOver(): Promise<void> {
    await this.settled
    await this.execs.handedOver()
  }

  /** Leaves everything as it is for the next worker process: nothing is ended by a stop of the worker. */
  detach(): void {
    this.lifetime?.stop()
    this.agentWatch?.stop()
  }

  private async create(secrets: ExecSecrets): Promise<void> {
    try {
      await this.deps.ready()
      failpoint('create-begun')
      const endTimer = createStepSeconds.startTimer({ step: 'total' })
      this.running = await traced('create', { attributes: { 'sandtrail.sandbox_id': this.sandboxId } }, () =>
        this.deps.driver.create(this.request(), this.abort.signal),
      )
      this.log.info({ tookMs: Math.round(endTimer() * 1000) }, 'sandbox runs')
      failpoint('create-done')
    } catch (error) {
      return this.end(causeFromStart(error))
    }
    if (this.journal.state.cause !== null) return
    const { volumes } = this.running
    const slots = volumes.map(({ volumeId, slot }) => ({ kind: 'slot' as const, volumeId, slot }))
    this.journal.append({ kind: 'running' }, ...slots)
    const versions = volumes.map(({ volumeId, version }) => ({ volumeId, version }))
    this.journal.report({ kind: 'sandbox-started', volumes: versions })
    this.startMain(secrets)
    this.watch(this.running)
  }

  private startMain(secrets: ExecSecrets): void {
    const { agent } = this.running!
    this.execs.begin(agent)
    const main = this.mainSpec()
    if (main !== null) this.execs.accept(MAIN_EXEC, main, secrets, Number.POSITIVE_INFINITY)
  }

  private async adopt(): Promise<void> {
    const { ended, runningSince } = this.journal.state
    if (ended || this.spec === null) return this.end({ kind: 'stopped' })
    const sameBoot = this.record.bootId === bootId()
    this.execs.restore()
    if (runningSince === null || !sameBoot) return this.end(restarted(sameBoot))
    this.running = await this.deps.driver.adopt(this.request())
    if (this.running === null)
      return this.end(causeFromRuntime(await this.deps.driver.postMortem(this.sandboxId)))
    this.execs.adopt(this.running.agent)
    this.watch(this.running)
  }

  private watch(running: RunningSandbox): void {
    const { cause, execs } = this.journal.state
    if (cause !== null) this.end(cause)
    else if (this.spec?.command && !execs.has(MAIN_EXEC)) this.end(MAIN_NEVER_SENT)
    else {
      this.lifetime?.start()
      this.agentWatch = new AgentWatch(
        running.agent,
        () => this.execs.hasOpen,
        () => this.end(AGENT_SILENT),
      )
      this.agentWatch.start()
    }
    void running.exited.then((exit) => this.end(causeFromRuntime(exit)))
  }

  private mainSpec(): ExecSpec | null {
    if (this.spec === null || this.spec.command === null) return null
    const { command, workdir, user, envNames } = this.spec
    const { stdin, pty } = { ...SPEC_BEFORE, ...this.spec }
    const { sandboxId, epoch } = this
    return {
      sandboxId,
      epoch,
      argv: command,
      workdir,
      user,
      envNames,
      pty,
      stdin,
      timeoutMs: null,
    }
  }

  private request(): RuntimeRequest {
    const { sandboxId, epoch, tenant, dir } = this
    return {
      sandboxId,
      epoch,
      tenant,
      dir,
      spec: this.spec!,
      sink: this.execs.sink,
      onExecExit: (execId, exit) => this.execs.onExit(execId, exit),
    }
  }
}

function restarted(sameBoot: boolean): EndingReport {
  const [code, message] = sameBoot
    ? ['WORKER_RESTARTED', 'the worker restarted while the sandbox was being made']
    : ['HOST_RESTARTED', 'the host has been restarted']
  return { kind: 'failed', step: 'worker-restart', code, message }
}

const NOT_ADOPTED: EndingReport = {
  kind: 'failed',
  step: 'adopt',
  code: 'WORKER_RESTARTED',
  message: 'the worker restarted and could not take the sandbox up again',
}

const MAIN_NEVER_SENT: EndingReport = {
  kind: 'failed',
  step: 'start-main',
  code: 'WORKER_RESTARTED',
  message: 'the worker restarted before it started the main process',
}

const AGENT_SILENT: EndingReport = {
  kind: 'failed',
  step: 'run',
  code: 'AGENT_SILENT',
  message: 'the agent of the sandbox does not answer; something inside has stopped it, or leaves it no CPU',
}

function causeFromStart(error: unknown): EndingReport {
  if (error instanceof StepFailed) {
    return { kind: 'failed', step: error.step, code: error.code, message: error.message }
  }
  return {
    kind: 'failed',
    step: 'create',
    code: 'INTERNAL',
    message: 'an internal error occurred, see the worker log',
  }
}

function causeFromRuntime(exit: RuntimeExit): EndingReport {
  if (exit.kind === 'out-of-memory') {
    return {
      kind: 'failed',
      step: 'run',
      code: 'OUT_OF_MEMORY',
      message: 'the sandbox used more memory than it has',
    }
  }
  return { kind: 'failed', step: 'run', code: 'SANDBOX_DIED', message: exit.detail }
}

/** A main process that could not start ends the sandbox as a shell would: 126 or 127. */
function causeFromMain(ending: ExecEndingReport): EndingReport {
  switch (ending.kind) {
    case 'exited':
      return ending.signal === null
        ? { kind: 'exited', code: ending.exitCode, signal: null }
        : { kind: 'exited', code: null, signal: ending.signal }
    case 'failed':
      return { kind: 'exited', code: ending.exitCode, signal: null }
    case 'lost':
      return { kind: 'failed', step: 'start-main', code: 'EXEC_LOST', message: ending.reason }
  }
}
