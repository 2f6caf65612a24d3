/** What the session keeps of one exec, across connections, until its exit is acknowledged. */

import type { AgentConnection } from './connection.js'
import { readOffset, STDIN, STDOUT, type StreamNumber } from './frame.js'
import type { AgentExit, OpenExec } from './messages.js'
import { OutputReceiver, type QueueGauge } from './output.js'
import { StdinSender } from './stdin.js'
import type { AgentLog, OutputSink } from './types.js'
import { ProtocolViolation } from './violation.js'

export class KnownAgentExec {
  readonly stdout: OutputReceiver
  readonly stderr: OutputReceiver
  readonly stdin = new StdinSender()
  /** The caller has its exit for good; the agent may not know yet. */
  isAcknowledged = false
  private attachedTo: AgentConnection | null = null
  private telling: Promise<void> = Promise.resolve()

  constructor(
    readonly execId: string,
    durable: { stdout: number; stderr: number },
    sink: OutputSink,
    gauge: QueueGauge,
    private readonly log: AgentLog,
  ) {
    this.stdout = new OutputReceiver(execId, 'stdout', durable.stdout, sink, gauge, log)
    this.stderr = new OutputReceiver(execId, 'stderr', durable.stderr, sink, gauge, log)
  }

  isAttachedTo(connection: AgentConnection): boolean {
    return this.attachedTo === connection
  }

  /** The agent has it open under this handle, on this connection. */
  attach(connection: AgentConnection, open: OpenExec): void {
    this.attachedTo = connection
    this.stdout.skipTo(open.stdoutFrom)
    this.stderr.skipTo(open.stderrFrom)
    this.stdout.attach(connection, open.handle)
    this.stderr.attach(connection, open.handle)
    this.stdin.attach(connection, open.handle, open.stdin)
  }

  detach(): void {
    this.attachedTo = null
    this.stdin.detach()
  }

  /** @throws ProtocolViolation */
  onData(stream: StreamNumber, payload: Buffer): void {
    if (stream === STDIN) {
      this.stdin.onNews(payload)
      return
    }
    const output = stream === STDOUT ? this.stdout : this.stderr
    output.receive(readOffset(payload, 0), payload.subarray(8))
  }

  /** Tells the exit when the sink has all output. @throws ProtocolViolation when the counts are not what came. */
  onExit(exit: AgentExit, tell: (exit: AgentExit) => Promise<void> | void): void {
    if (exit.stdoutBytes !== this.stdout.receivedOffset || exit.stderrBytes !== this.stderr.receivedOffset) {
      throw new ProtocolViolation('BAD_OFFSET', 'an exit counts other bytes than came')
    }
    this.stdin.end()
    this.telling = this.telling.then(async () => {
      await Promise.all([this.stdout.idle(), this.stderr.idle()])
      if (this.isAcknowledged || !this.isSpooled(exit)) return
      try {
        await tell(exit)
      } catch (error) {
        // It stays unacknowledged, so it is told again after the next reconnect.
        this.log.error({ execId: this.execId, err: error }, 'exit could not be taken')
      }
    })
  }

  /** Not so when the session was stopped before the sink had everything. */
  private isSpooled(exit: AgentExit): boolean {
    return this.stdout.durableOffset === exit.stdoutBytes && this.stderr.durableOffset === exit.stderrBytes
  }

  async stop(): Promise<void> {
    this.stdin.stop()
    await Promise.all([this.stdout.stop(), this.stderr.stop()])
  }
}
