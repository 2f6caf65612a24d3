/**
 * The host's side of one sandbox's agent. It lives across connections, and a new one made by a restarted process
 * goes on where the sink's durable offsets end: nothing is lost and nothing comes twice.
 *
 *   listening -> hello + token -> our hello -> open* listed -> requests, data -> lost -> listening
 *
 * Everything that the agent sends is untrusted: a violation costs it the connection, nothing more.
 */

import { Rejected } from '#libs/domain'
import type { AgentConnection } from './connection.js'
import { KnownAgentExec } from './exec.js'
import { CONTROL, type Frame, splitChannel } from './frame.js'
import { AgentListener } from './listener.js'
import {
  type AgentExit,
  type AgentMount,
  type FromAgent,
  type OpenExec,
  PROTOCOL,
  parseExecState,
  parseMessage,
  parseMounts,
} from './messages.js'
import { AgentRequests } from './requests.js'
import type { AgentSessionOptions, Disconnection, ExecOutcome, ExecRequest, KnownExec } from './types.js'
import { ProtocolViolation } from './violation.js'

/** How long a request waits for a connection and an answer, unless its caller says otherwise. */
const DEADLINE_MS = 10_000
/** After the grace and the kill the agent hands over the last exits within 5 s. */
const SHUTDOWN_EXTRA_MS = 7_000
/** More open execs than an agent allows. */
const LISTED_MAX = 1_024
/** Above this the agent is not read until the sinks have caught up; execs are not slowed below it. */
const QUEUED_BYTES_MAX = 4 * 1024 * 1024

export class AgentSession {
  private readonly listener: AgentListener
  private readonly requests = new AgentRequests()
  private readonly execs = new Map<string, KnownAgentExec>()
  private readonly gauge = { add: (bytes: number) => this.onQueued(bytes) }
  private byHandle = new Map<number, KnownAgentExec>()
  private offsets: Record<string, { stdout: number; stderr: number }> = {}
  private connection: AgentConnection | null = null
  private phase: 'authenticated' | 'greeted' | 'listed' = 'authenticated'
  private listedCount = 0
  private queuedBytes = 0
  private stopped = false

  constructor(private readonly options: AgentSessionOptions) {
    const { socketPath, token, log } = options
    this.listener = new AgentListener(
      socketPath,
      token,
      (connection) => this.onAuthenticated(connection),
      log,
    )
  }

  /** Listens for the agent. Safe to call twice. */
  async start(): Promise<void> {
    await this.listener.start()
  }

  /** Leaves the agent alone; it goes on with its execs. Resolves when no call of the sink is under way. */
  async stop(): Promise<void> {
    this.stopped = true
    this.requests.stop()
    await this.connection?.close({ code: 'STOPPED', message: 'the session was stopped' })
    await this.listener.stop()
    await Promise.all([...this.execs.values()].map((exec) => exec.stop()))
  }

  get isConnected(): boolean {
    return this.connection !== null && this.phase === 'listed'
  }

  /**
   * Starts a program, at most once per id for the life of the agent: asked again it tells the state.
   * @throws SandtrailError AGENT_UNREACHABLE when no answer came in time; it may run then, `execState` tells.
   */
  exec(request: ExecRequest, deadlineMs = DEADLINE_MS): Promise<ExecOutcome> {
    const { execId, stdin, ...rest } = request
    const message = () => {
      const { stdout, stderr } = this.know(execId)
      const spec = { ...rest, stdin: stdin === 'open' }
      return { op: 'exec', exec: execId, spec, stdout: stdout.durableOffset, stderr: stderr.durableOffset }
    }
    const accept = (result: unknown) => {
      const outcome = this.onExecState(execId, result, true)
      if (outcome.state === 'unknown')
        throw new ProtocolViolation('UNEXPECTED', 'an exec that is unknown at once')
      return outcome
    }
    return this.requests.call(message, accept, deadlineMs)
  }

  /** What the agent knows of an exec; from then on its output is taken too. @throws as `exec` */
  execState(execId: string, deadlineMs = DEADLINE_MS): Promise<KnownExec> {
    return this.requests.call(
      () => ({ op: 'state', exec: execId }),
      (result) => this.onExecState(execId, result, false),
      deadlineMs,
    )
  }

  /**
   * Sends stdin from `offset` on; bytes that the agent has already are skipped, so a caller may repeat itself.
   * Resolves when the agent has taken over all of it: a program that does not read holds the caller back.
   * With `eof` the stream ends after `data`.
   * @throws Rejected EXEC_NOT_FOUND, EXEC_ENDED, or INVALID_ARGUMENT for a gap.
   */
  async writeStdin(
    execId: string,
    offset: number,
    data: Buffer,
    { eof = false, signal }: { eof?: boolean; signal?: AbortSignal } = {},
  ): Promise<{ acceptedTo: number }> {
    if (!this.execs.has(execId)) await this.mustBeOpen(execId)
    const written = await this.know(execId).stdin.write(offset, data, signal)
    if (eof) {
      await this.ask(() => ({ op: 'stdin-eof', exec: execId, offset: offset + data.length }))
    }
    return written
  }

  private async mustBeOpen(execId: string): Promise<void> {
    const { state } = await this.execState(execId)
    if (state === 'unknown') throw new Rejected('EXEC_NOT_FOUND', 'no exec has this id')
    if (state !== 'started') throw new Rejected('EXEC_ENDED', 'the program has ended')
  }

  /** @throws Rejected EXEC_NOT_FOUND, EXEC_ENDED, or INVALID_ARGUMENT when it has no terminal. */
  resize(execId: string, { rows, cols }: { rows: number; cols: number }): Promise<void> {
    return this.ask(() => ({ op: 'resize', exec: execId, rows, cols }))
  }

  /**
   * Signals the exec's whole process group. Sent again when the stream was lost before the answer.
   * @throws Rejected EXEC_NOT_FOUND, EXEC_ENDED, INVALID_ARGUMENT.
   */
  signal(execId: string, signal: number): Promise<void> {
    return this.ask(() => ({ op: 'signal', exec: execId, signal }))
  }

  /** sync(2) inside: everything written before is on the host's side. @throws SandtrailError DEADLINE_EXCEEDED */
  sync(timeoutMs: number): Promise<void> {
    return this.ask(() => ({ op: 'sync', timeoutMs }), timeoutMs + DEADLINE_MS)
  }

  /**
   * Binds a directory of the sandbox at a path, which is made if missing. The same bind again is no error;
   * `replace` takes away what is bound there first. @throws Rejected INVALID_ARGUMENT; SandtrailError INTERNAL
   */
  bind(bind: { source: string; target: string; readOnly: boolean; replace?: boolean }): Promise<void> {
    return this.ask(() => ({ op: 'bind', replace: false, ...bind }))
  }

  /** @throws Rejected INVALID_ARGUMENT when nothing is bound there. */
  unbind({ target }: { target: string }): Promise<void> {
    return this.ask(() => ({ op: 'unbind', target }))
  }

  mounts(): Promise<AgentMount[]> {
    return this.requests.call(() => ({ op: 'mounts' }), parseMounts, DEADLINE_MS)
  }

  /** Resolves when the agent's loop answers. */
  ping(deadlineMs = DEADLINE_MS): Promise<void> {
    return this.ask(() => ({ op: 'ping' }), deadlineMs)
  }

  /**
   * SIGTERM to every process inside, SIGKILL after the grace; resolves when all are gone and each exit that was
   * acknowledged in time. The agent exits then, and with it the sandbox.
   */
  shutdown(graceMs: number): Promise<void> {
    return this.ask(() => ({ op: 'shutdown', graceMs }), graceMs + SHUTDOWN_EXTRA_MS)
  }

  /** The exit is safe with the caller: the agent may let go of it. Is repeated until the agent has heard it. */
  acknowledgeExit(execId: string): void {
    const exec = this.execs.get(execId)
    if (exec) exec.isAcknowledged = true
    const forget = () => {
      this.execs.delete(execId)
      for (const [handle, known] of this.byHandle) if (known === exec) this.byHandle.delete(handle)
    }
    this.requests
      .call(() => ({ op: 'ack-exit', exec: execId }), forget, null)
      .catch((error) => {
        if (!this.stopped) this.options.log.warn({ execId, err: error }, 'exit not acknowledged')
      })
  }

  private ask(message: () => object, deadlineMs = DEADLINE_MS): Promise<void> {
    return this.requests.call(message, () => undefined, deadlineMs)
  }

  private know(execId: string): KnownAgentExec {
    let exec = this.execs.get(execId)
    if (!exec) {
      const { sink, log } = this.options
      const durable = Object.hasOwn(this.offsets, execId) ? this.offsets[execId] : undefined
      exec = new KnownAgentExec(execId, durable ?? { stdout: 0, stderr: 0 }, sink, this.gauge, log)
      this.execs.set(execId, exec)
    }
    return exec
  }

  private onAuthenticated(connection: AgentConnection): void {
    // Whoever has the token is the agent; that it comes again means that its end of the old stream is gone.
    void this.connection?.close({ code: 'REPLACED', message: 'the agent connected anew' })
    this.detach()
    this.connection = connection
    this.phase = 'authenticated'
    this.listedCount = 0
    connection.open({
      onFrame: (frame) => this.onFrame(connection, frame),
      onClosed: (reason) => this.onClosed(connection, reason),
    })
    if (this.stopped) {
      void connection.close({ code: 'STOPPED', message: 'the session was stopped' })
      return
    }
    void this.greet(connection)
  }

  /** The agent says nothing before our hello, so that its list meets offsets that are known. */
  private async greet(connection: AgentConnection): Promise<void> {
    try {
      this.offsets = await this.options.sink.durableOffsets()
    } catch (error) {
      this.options.log.error({ err: error }, 'durable offsets cannot be read')
      void connection.close({ code: 'SINK_FAILED', message: 'the durable offsets cannot be read' })
      return
    }
    if (this.connection !== connection) return
    this.phase = 'greeted'
    connection.sendMessage({ op: 'hello', protocol: PROTOCOL })
  }

  private onFrame(connection: AgentConnection, frame: Frame): void {
    if (this.phase === 'authenticated') {
      throw new ProtocolViolation('UNEXPECTED', 'the agent went on before it was answered')
    }
    if (frame.channel === CONTROL) {
      this.onMessage(connection, parseMessage(frame.payload))
      return
    }
    const data = splitChannel(frame.channel)
    if (!data) throw new ProtocolViolation('UNEXPECTED', 'a frame on a channel that does not exist')
    // Of an exec that nobody here asked for nothing is taken.
    this.byHandle.get(data.handle)?.onData(data.stream, frame.payload)
  }

  private onMessage(connection: AgentConnection, message: FromAgent): void {
    switch (message.op) {
      case 'hello':
        throw new ProtocolViolation('UNEXPECTED', 'a second hello')
      case 'open':
        this.onOpen(connection, message.execId, message.open)
        break
      case 'listed':
        this.onListed(connection)
        break
      case 'exit':
        this.onExit(connection, message.execId, message.exit)
        break
      case 'done':
        this.requests.onDone(message.id, message.result)
        break
      case 'refused':
        this.requests.onRefused(message.id, message.code, message.message)
        break
    }
  }

  private onExit(connection: AgentConnection, execId: string, exit: AgentExit): void {
    const exec = this.execs.get(execId)
    if (exec?.isAttachedTo(connection)) exec.onExit(exit, (told) => this.options.onExit(execId, told))
  }

  private onOpen(connection: AgentConnection, execId: string, open: OpenExec): void {
    this.listedCount += 1
    if (this.phase !== 'greeted' || this.listedCount > LISTED_MAX) {
      throw new ProtocolViolation('UNEXPECTED', 'more open execs than there can be')
    }
    if (this.execs.has(execId) || Object.hasOwn(this.offsets, execId))
      this.attach(connection, execId, open, false)
  }

  private onListed(connection: AgentConnection): void {
    if (this.phase !== 'greeted') throw new ProtocolViolation('UNEXPECTED', 'a second list')
    this.phase = 'listed'
    this.requests.attach(connection)
    this.options.onConnected?.(connection.info)
  }

  /** `isResumed`: the request that is answered here told the agent our offsets. */
  private onExecState(execId: string, result: unknown, isResumed: boolean): KnownExec {
    const state = parseExecState(result)
    switch (state.state) {
      case 'open':
        this.attach(this.connection!, execId, state, isResumed)
        return { state: 'started', pid: state.pid, startedAgoMs: state.startedAgoMs }
      case 'exited':
      case 'failed':
        this.execs.get(execId)?.stdin.end()
        this.execs.delete(execId)
        return state
      case 'unknown':
        return state
    }
  }

  private attach(connection: AgentConnection, execId: string, open: OpenExec, isResumed: boolean): void {
    const exec = this.know(execId)
    if (exec.isAttachedTo(connection)) return
    const holder = this.byHandle.get(open.handle)
    if (holder && holder !== exec) throw new ProtocolViolation('UNEXPECTED', 'two execs with one handle')
    this.byHandle.set(open.handle, exec)
    exec.attach(connection, open)
    if (isResumed) return
    const { stdout, stderr } = exec
    connection.sendMessage({
      op: 'resume',
      exec: execId,
      stdout: stdout.durableOffset,
      stderr: stderr.durableOffset,
    })
  }

  private onQueued(bytes: number): void {
    const before = this.queuedBytes
    this.queuedBytes += bytes
    if (this.queuedBytes > QUEUED_BYTES_MAX) this.connection?.pause()
    else if (before > QUEUED_BYTES_MAX) this.connection?.resume()
  }

  private onClosed(connection: AgentConnection, reason: Disconnection): void {
    if (this.connection === connection) this.detach()
    this.options.log.info({ code: reason.code }, 'agent disconnected')
    this.options.onDisconnected?.(reason)
  }

  private detach(): void {
    this.connection = null
    this.phase = 'authenticated'
    this.byHandle = new Map()
    this.requests.detach()
    for (const exec of this.execs.values()) exec.detach()
  }
}
