/**
 * The execs of one sandbox, its main process (`main`) included. Each is at most once:
 *
 *   intended -> sent -> started -> closed
 *        \_______\___________\______/   cancelled, not startable, lost, sandbox ended
 *
 * `intended` and `sent` are in the journal before the agent is asked; the agent remembers every id for its life. After
 * a restart the agent's word decides: what it does not know is lost, and never asked for again. A power cut takes the
 * sandbox too, so nobody waits for the disk here.
 */

import { setTimeout as delay } from 'node:timers/promises'
import type { AgentExit, AgentSession, ExecOutcome, OutputSink } from '#libs/agent-client'
import { MAIN_EXEC } from '#libs/contract'
import {
  type ExecEndingReport,
  type ExecId,
  type ExecSpec,
  Rejected,
  type SandboxId,
  SandtrailError,
} from '#libs/domain'
import { failpoint } from '#libs/failpoint'
import { beginSpan, type Correlation, correlate, correlation, type Log } from '#libs/service'
import { atBootTime } from '../boot-clock.js'
import { execStageSeconds } from '../metrics.js'
import type { ExecKey, Journal } from '../sandboxes/journal.js'
import type { ExecOutput, Spool } from '../spool/spool.js'
import { outcomeOf } from './exit-code.js'
import { endStdin, feedStdin, startProgram } from './hand-over.js'

const SIGKILL = 9
/** Node's timers cannot wait longer. */
const TIMER_MS_MAX = 2 ** 31 - 1
/** Between two questions to an agent that does not answer; one question waits for 10 s already. */
const ASK_AGAIN_MS = 1_000

export interface ExecSecrets {
  env: Record<string, string>
  /** All of it, for an exec whose stdin is `inline`. */
  stdin: Buffer | null
}

/** In memory only; the values of env and stdin are nowhere else. */
interface OpenExec {
  key: ExecKey
  spec: ExecSpec
  /** Accepted by this process, not found in the journal at its start. */
  isNew: boolean
  /** Taken up by this process, on its monotonic clock. */
  begunMs: number
  /** Of the command that asked for it; lost with a restart of this process. */
  correlation: Correlation
  endSpan: ReturnType<typeof beginSpan>
  env: Record<string, string>
  /** All of it, until it is handed over; null: it comes on the data plane, or none does. */
  stdin: Buffer | null
  output: ExecOutput
  /** Settles when the agent has answered the start; null before it was asked. */
  launch: Promise<void> | null
  /** Signals that wait for the start. */
  signals: { signal: number; signalId: string }[]
  disarm: (() => void)[]
  launched: PromiseWithResolvers<void>
  closed: PromiseWithResolvers<void>
}

export interface ExecsContext {
  sandboxId: SandboxId
  journal: Journal
  spool: Spool
  log: Log
  /** The power was cut since: what the journal does not know may have been written, and have run. */
  mayHaveForgotten(): boolean
  onMainEnded(ending: ExecEndingReport): void
  /** An exec began or ended: the sandbox's idle time is counted anew. */
  onActivity(): void
}

export class Execs {
  private readonly open = new Map<ExecKey, OpenExec>()
  private readonly signalled = new Set<string>()
  private readonly feeding = new Set<Promise<void>>()
  private agent: AgentSession | null = null

  constructor(private readonly context: ExecsContext) {}

  /** What the agent's session writes output to. Bytes of an exec that is not open any more are of no use. */
  readonly sink: OutputSink = {
    append: async (execId, stream, offset, data) => {
      await this.open.get(execId as ExecKey)?.output[stream].append(offset, data)
    },
    // Closed ones too: an exit that was recorded but not acknowledged before a restart is told again, and then is.
    durableOffsets: async () => ({ ...this.closedOffsets(), ...this.openOffsets() }),
  }

  /** Execs whose end is not yet reported; the main process is none of them. */
  get openIds(): ExecId[] {
    return [...this.open.keys()].filter((key) => key !== MAIN_EXEC)
  }

  /** The main process included. */
  get hasOpen(): boolean {
    return this.open.size > 0
  }

  /** The intent survives a kill -9 when this returns. A second delivery changes nothing. */
  accept(key: ExecKey, spec: ExecSpec, secrets: ExecSecrets, startByMs: number): void {
    const { journal } = this.context
    if (journal.state.execs.has(key)) return
    const stdinBytes = secrets.stdin?.length ?? 0
    const begunMs = performance.now()
    journal.append({ kind: 'exec-intent', execId: key, spec, stdinBytes, sent: this.agent !== null })
    const exec = this.track(key, spec, secrets)
    const tooLate = setTimeout(
      () => this.refuse(exec, 'DEADLINE_EXCEEDED', TOO_LATE),
      Math.min(startByMs, TIMER_MS_MAX),
    )
    exec.disarm.push(() => clearTimeout(tooLate))
    execStageSeconds.observe({ stage: 'intent' }, secondsSince(begunMs))
    failpoint('exec-intended')
    if (this.agent !== null) this.launch(exec, this.agent)
    else if (journal.state.cause !== null) this.turnAway(exec)
  }

  /** An exec that has not been sent by now never will be. False: it is not known here, and never will start. */
  async cancel(key: ExecKey): Promise<boolean> {
    const { journal } = this.context
    const memory = journal.state.execs.get(key)
    if (memory === undefined) {
      if (this.context.mayHaveForgotten()) {
        journal.report({ kind: 'exec-ended', execId: key as ExecId, ending: FORGOTTEN })
        return true
      }
      journal.append({ kind: 'exec-cancelled', execId: key })
      await journal.sync()
      return false
    }
    const exec = this.open.get(key)
    if (exec !== undefined && exec.launch === null) this.refuse(exec, 'DEADLINE_EXCEEDED', TOO_LATE)
    return !memory.cancelled
  }

  /** Resolves when the process runs, also when it waits for its sandbox. @throws Rejected EXEC_NOT_FOUND, EXEC_ENDED */
  async started(key: ExecKey): Promise<{ agent: AgentSession }> {
    const exec = this.open.get(key)
    if (exec !== undefined) {
      await Promise.race([exec.launched.promise, exec.closed.promise])
      if (this.open.has(key) && this.agent !== null) return { agent: this.agent }
    }
    if (this.context.journal.state.execs.has(key)) throw new Rejected('EXEC_ENDED', `${key} has ended`)
    throw new Rejected('EXEC_NOT_FOUND', `${key} has not arrived here`)
  }

  /** To the exec's process group. The same signal id has one effect; an ended exec has none. */
  async signal(key: ExecKey, signal: number, signalId: string): Promise<void> {
    const memory = this.context.journal.state.execs.get(key)
    if (memory === undefined) {
      throw new SandtrailError('EXEC_NOT_FOUND', `${key} has not arrived here`, { retryable: true })
    }
    const exec = this.open.get(key)
    if (exec === undefined || memory.signalIds.has(signalId) || this.signalled.has(signalId)) return
    this.signalled.add(signalId)
    if (exec.launch === null) {
      exec.signals.push({ signal, signalId })
      return
    }
    await exec.launch
    await this.deliver(exec, signal, signalId)
  }

  /** The sandbox runs: what waited for it starts. */
  begin(agent: AgentSession): void {
    this.agent = agent
    for (const exec of this.open.values()) this.launch(exec, agent)
  }

  /** Before a restarted worker meets the agent again: what was open is open again, at the offsets of its files. */
  restore(): void {
    for (const [key, memory] of this.context.journal.state.execs) {
      if (memory.spec !== null && memory.phase !== 'closed') this.track(key, memory.spec, null)
    }
  }

  /** After a restart: the agent says what became of each, when it gets to it; nothing waits for a silent one. */
  adopt(agent: AgentSession): void {
    this.agent = agent
    for (const exec of [...this.open.values()]) {
      const memory = this.context.journal.state.execs.get(exec.key)!
      if (memory.phase === 'intended') {
        // One that came to this process while the agent was being found has lost nothing: it simply starts.
        if (exec.isNew) this.launch(exec, agent)
        else this.lose(exec, false, 'the worker restarted before it started')
        continue
      }
      exec.launch = this.reconcileOrAskAgain(exec, agent)
    }
  }

  /** The agent's word on an exit; all output came before it. Told again until it is acknowledged. */
  async onExit(execId: string, exit: AgentExit): Promise<void> {
    const key = execId as ExecKey
    const exec = this.open.get(key)
    if (exec !== undefined) {
      await exec.launch
      await this.finish(exec, exit)
    }
    await this.context.journal.sync()
    failpoint('exec-exit-recorded')
    this.agent?.acknowledgeExit(key)
  }

  /** The sandbox ends: what waits never starts. */
  refuseWaiting(): void {
    for (const exec of [...this.open.values()]) {
      if (!this.wasSent(exec)) this.turnAway(exec)
    }
  }

  /** Resolves when every start that was begun here is answered, and every small stdin handed over. */
  async handedOver(): Promise<void> {
    await Promise.all([...this.open.values()].map(({ launch }) => launch))
    await Promise.all(this.feeding)
  }

  /** Resolves when no exec is open any more. */
  async allClosed(): Promise<void> {
    while (this.open.size > 0) await Promise.all([...this.open.values()].map((exec) => exec.closed.promise))
  }

  /** SIGKILL to the process group of each that runs. */
  killAll(): void {
    for (const exec of this.open.values()) {
      if (exec.launch !== null) this.agent?.signal(exec.key, SIGKILL).catch(() => {}) // It has ended by itself.
    }
  }

  /** What is open and will not be heard of again is lost. */
  loseOpen(reason: string): void {
    for (const exec of [...this.open.values()]) this.lose(exec, this.wasSent(exec), reason)
  }

  private openOffsets(): Record<string, { stdout: number; stderr: number }> {
    const open = [...this.open].map(([key, { output }]) => {
      return [key, { stdout: output.stdout.end, stderr: output.stderr.end }] as const
    })
    return Object.fromEntries(open)
  }

  private closedOffsets(): Record<string, { stdout: number; stderr: number }> {
    const closed = [...this.context.journal.state.execs].filter(([, { phase }]) => phase === 'closed')
    return Object.fromEntries(closed.map(([key, { end }]) => [key, end]))
  }

  private track(key: ExecKey, spec: ExecSpec, secrets: ExecSecrets | null): OpenExec {
    const output = this.context.spool.open(this.context.sandboxId, key)
    const exec: OpenExec = {
      key,
      spec,
      isNew: secrets !== null,
      begunMs: performance.now(),
      correlation: correlation(),
      endSpan: beginSpan('exec', {
        attributes: { 'sandtrail.sandbox_id': this.context.sandboxId, 'sandtrail.exec_id': key },
      }),
      env: secrets?.env ?? {},
      stdin: spec.stdin === 'inline' ? (secrets?.stdin ?? Buffer.alloc(0)) : null,
      output,
      launch: null,
      signals: [],
      disarm: [],
      launched: Promise.withResolvers(),
      closed: Promise.withResolvers(),
    }
    this.open.set(key, exec)
    this.context.onActivity()
    return exec
  }

  private wasSent(exec: OpenExec): boolean {
    return this.context.journal.state.execs.get(exec.key)?.phase !== 'intended'
  }

  private launch(exec: OpenExec, agent: AgentSession): void {
    if (exec.launch !== null || !this.open.has(exec.key)) return
    if (this.context.journal.state.cause !== null) {
      this.turnAway(exec)
      return
    }
    exec.launch = this.send(exec, agent).catch((error) => {
      this.context.log.error({ execId: exec.key, err: error }, 'the end of an exec cannot be taken up')
      this.lose(exec, true, 'its end could not be taken up')
    })
  }

  private async send(exec: OpenExec, agent: AgentSession): Promise<void> {
    const { journal, log } = this.context
    if (journal.state.execs.get(exec.key)?.phase === 'intended') {
      try {
        journal.append({ kind: 'exec-sent', execId: exec.key })
      } catch (err) {
        log.error({ execId: exec.key, err }, 'exec is not started: it cannot be noted')
        return this.refuse(exec, 'NO_SPACE', 'the disk of its worker is full')
      }
    }
    for (const disarm of exec.disarm.splice(0)) disarm()
    failpoint('exec-before-send')
    const askedMs = performance.now()
    let outcome: ExecOutcome
    try {
      outcome = await startProgram(agent, exec, () => journal.state.cause === null)
    } catch (err) {
      log.error({ execId: exec.key, err }, 'exec start failed')
      return this.lose(exec, true, 'the agent did not answer its start')
    }
    execStageSeconds.observe({ stage: 'start' }, secondsSince(askedMs))
    failpoint('exec-sent')
    exec.env = {}
    await this.take(exec, outcome)
    for (const { signal, signalId } of exec.signals.splice(0)) {
      await this.deliver(exec, signal, signalId).catch((err) => {
        log.warn({ execId: exec.key, err }, 'a signal was not delivered, its order will come again')
      })
    }
  }

  private async take(exec: OpenExec, outcome: ExecOutcome): Promise<void> {
    switch (outcome.state) {
      case 'started':
        this.markStarted(exec, outcome.pid)
        return this.feed(exec)
      case 'exited':
        return this.finish(exec, outcome.exit)
      case 'failed':
        return this.fail(exec, outcome.failure)
    }
  }

  /** Goes on beside: a program may take its time, or never read. */
  private feed(exec: OpenExec): void {
    const { key, stdin } = exec
    exec.stdin = null
    if (stdin === null || this.agent === null) return
    const feeding = feedStdin(this.agent, key, stdin)
      .catch((err) => this.context.log.warn({ execId: key, err }, 'stdin was not handed over'))
      .finally(() => this.feeding.delete(feeding))
    this.feeding.add(feeding)
  }

  private markStarted(exec: OpenExec, pid: number): void {
    const { journal } = this.context
    if (exec.key === MAIN_EXEC) journal.note({ kind: 'exec-started', execId: exec.key })
    else journal.report({ kind: 'exec-started', execId: exec.key, pid })
    this.armTimeout(exec)
    exec.launched.resolve()
  }

  private armTimeout(exec: OpenExec): void {
    const { journal } = this.context
    const startedAt = journal.state.execs.get(exec.key)?.startedAt
    if (exec.spec.timeoutMs === null || startedAt === null || startedAt === undefined) return
    const disarm = atBootTime(startedAt + exec.spec.timeoutMs, () => {
      journal.note({ kind: 'exec-timed-out', execId: exec.key })
      this.agent?.signal(exec.key, SIGKILL)?.catch(() => {}) // It has ended by itself.
    })
    exec.disarm.push(disarm)
  }

  private async deliver(exec: OpenExec, signal: number, signalId: string): Promise<void> {
    try {
      if (!this.open.has(exec.key) || this.agent === null) return
      await this.agent.signal(exec.key, signal).catch((error) => {
        // It ended before: nothing is left to signal.
        if (!(error instanceof Rejected && error.code === 'EXEC_ENDED')) throw error
      })
      // After, not before: a signal that comes twice is a smaller evil than a kill that never comes.
      this.context.journal.note({ kind: 'exec-signal', execId: exec.key, signalId })
    } finally {
      this.signalled.delete(signalId)
    }
  }

  /**
   * Never rejects. The agent is the guest's: one that is silent or answers nonsense is asked on, as long as somebody
   * wants to know; meanwhile its sandbox's time goes on, and an exit that it tells by itself counts.
   */
  private async reconcileOrAskAgain(exec: OpenExec, agent: AgentSession): Promise<void> {
    try {
      await this.reconcile(exec, agent)
    } catch (err) {
      this.context.log.warn({ execId: exec.key, err }, 'the agent does not tell what became of an exec')
      void delay(ASK_AGAIN_MS, undefined, { ref: false }).then(() => {
        // The end of the sandbox ends its execs.
        const isWanted = this.open.has(exec.key) && this.context.journal.state.cause === null
        if (isWanted) void this.reconcileOrAskAgain(exec, agent)
      })
    }
  }

  private async reconcile(exec: OpenExec, agent: AgentSession): Promise<void> {
    const known = await agent.execState(exec.key)
    if (known.state === 'unknown') return this.lose(exec, true, 'the worker restarted at its start')
    if (known.state !== 'started') return this.take(exec, known)
    const memory = this.context.journal.state.execs.get(exec.key)!
    if (memory.phase === 'sent') {
      this.markStarted(exec, known.pid)
    } else {
      this.armTimeout(exec)
      exec.launched.resolve()
    }
    if (exec.spec.stdin !== 'inline' || (await endStdin(agent, exec.key, memory.stdinBytes))) return
    await agent.signal(exec.key, SIGKILL).catch(() => {}) // It has ended by itself.
    this.lose(exec, true, 'the worker restarted before it had handed over its stdin')
  }

  private async finish(exec: OpenExec, exit: AgentExit): Promise<void> {
    const { stdout, stderr } = await exec.output.finish()
    const { journal } = this.context
    const timedOut = exit.timedOut || (journal.state.execs.get(exec.key)?.timedOut ?? false)
    const outcome = outcomeOf(exit, { timedOut, sandboxEnding: journal.state.cause !== null })
    this.close(exec, { kind: 'exited', ...outcome, stdout, stderr })
  }

  /** It never ran: 126, 127, or refused by the agent. */
  private async fail(exec: OpenExec, failure: Omit<Extract<ExecEndingReport, { kind: 'failed' }>, 'kind'>) {
    // A main process has no event of its own that could say why: its stderr does, as a shell's would.
    if (exec.key === MAIN_EXEC)
      await exec.output.stderr.append(0, Buffer.from(`sandtrail: ${failure.message}\n`))
    await exec.output.finish()
    this.close(exec, { kind: 'failed', ...failure })
  }

  private refuse(exec: OpenExec, code: string, message: string): void {
    this.close(exec, { kind: 'failed', exitCode: 125, code, message })
  }

  /** Its sandbox ends, and as far as is known here it has not started. */
  private turnAway(exec: OpenExec): void {
    if (this.context.mayHaveForgotten()) this.close(exec, FORGOTTEN)
    else this.refuse(exec, 'SANDBOX_GONE', GONE)
  }

  private lose(exec: OpenExec, mayHaveRun: boolean, reason: string): void {
    this.close(exec, { kind: 'lost', mayHaveRun, reason })
  }

  private close(exec: OpenExec, ending: ExecEndingReport): void {
    if (!this.open.delete(exec.key)) return
    const { journal, spool, sandboxId } = this.context
    for (const disarm of exec.disarm.splice(0)) disarm()
    exec.stdin = null
    // Of one that an earlier process took up nobody knows the beginning.
    if (exec.isNew) execStageSeconds.observe({ stage: 'total' }, secondsSince(exec.begunMs))
    this.tellEnd(exec, ending)
    if (exec.key === MAIN_EXEC) {
      journal.note({ kind: 'exec-closed', execId: MAIN_EXEC })
      this.context.onMainEnded(ending)
    } else {
      journal.report({ kind: 'exec-ended', execId: exec.key, ending })
    }
    spool.release(sandboxId, exec.key)
    exec.closed.resolve()
    this.context.onActivity()
  }

  private tellEnd(exec: OpenExec, ending: ExecEndingReport): void {
    const { kind } = ending
    const exitCode = 'exitCode' in ending ? ending.exitCode : null
    exec.endSpan(kind === 'exited' ? null : kind, { 'process.exit.code': exitCode ?? undefined })
    const fields = {
      execId: exec.key,
      ending: kind,
      exitCode,
      tookMs: Math.round(performance.now() - exec.begunMs),
    }
    correlate(exec.correlation, () => this.context.log.info(fields, 'exec ended'))
  }
}

function secondsSince(ms: number): number {
  return (performance.now() - ms) / 1000
}

const FORGOTTEN: ExecEndingReport = { kind: 'lost', mayHaveRun: true, reason: 'the host has been restarted' }
const GONE = 'its sandbox ended before it started'
const TOO_LATE = 'it had not started when its time to start was over'
