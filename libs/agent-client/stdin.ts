/** The host's end of one stdin: keeps to the agent's limit and goes on at the same byte after a reconnect. */

import { Rejected, SandtrailError } from '#libs/domain'
import type { AgentConnection } from './connection.js'
import { DATA_MAX, dataChannel, offsetBytes, readOffset, STDIN } from './frame.js'
import type { StdinState } from './messages.js'
import { ProtocolViolation } from './violation.js'

/** Most that an agent may let us send ahead. */
export const STDIN_WINDOW = 256 * 1024

export class StdinSender {
  private state: StdinState | null = null
  private sent = 0
  private target: { connection: AgentConnection; handle: number } | null = null
  private gone: Error | null = null
  private waiters: (() => void)[] = []
  private turn: Promise<unknown> = Promise.resolve()

  attach(connection: AgentConnection, handle: number, state: StdinState): void {
    this.check(state)
    this.target = { connection, handle }
    this.state = state
    this.sent = state.accepted
    this.wake()
  }

  detach(): void {
    this.target = null
  }

  /** `accepted u64 | limit u64 | closed u8`. @throws ProtocolViolation */
  onNews(payload: Buffer): void {
    if (payload.length !== 17) throw new ProtocolViolation('BAD_MESSAGE', 'news of stdin have a fixed length')
    const state = {
      accepted: readOffset(payload, 0),
      limit: readOffset(payload, 8),
      closed: payload[16] !== 0,
    }
    this.check(state)
    if (state.accepted > this.sent) throw new ProtocolViolation('BAD_OFFSET', 'stdin was never sent so far')
    this.state = state
    this.wake()
  }

  private check(next: StdinState): void {
    const before = this.state
    const isPossible =
      next.accepted <= next.limit &&
      next.limit - next.accepted <= STDIN_WINDOW &&
      (!before || (next.accepted >= before.accepted && next.limit >= before.limit))
    if (!isPossible) throw new ProtocolViolation('BAD_OFFSET', 'stdin went backwards or asks for too much')
  }

  /**
   * Sends the bytes of `data`, which begin at `offset`; those that the agent has already are skipped. Resolves when
   * the agent has taken over every one of them. Calls are carried out one after the other.
   * @throws Rejected INVALID_ARGUMENT for a gap; Rejected EXEC_ENDED when nobody reads any more.
   */
  write(offset: number, data: Buffer, signal?: AbortSignal): Promise<{ acceptedTo: number }> {
    const run = this.turn.then(() => this.writeInTurn(offset, data, signal))
    this.turn = run.catch(() => {})
    return run
  }

  private async writeInTurn(
    offset: number,
    data: Buffer,
    signal: AbortSignal | undefined,
  ): Promise<{ acceptedTo: number }> {
    const end = offset + data.length
    for (;;) {
      signal?.throwIfAborted()
      const { state, target } = this
      // The news that all was taken and the end of the program may have come together.
      if (data.length > 0 && state !== null && state.accepted >= end) return { acceptedTo: state.accepted }
      if (this.gone) throw this.gone
      if (state && target) {
        if (state.accepted >= end) return { acceptedTo: state.accepted }
        if (state.closed) throw new Rejected('EXEC_ENDED', 'the program no longer reads its stdin')
        if (offset > state.accepted) {
          throw new Rejected('INVALID_ARGUMENT', `stdin has a gap: the next byte is at ${state.accepted}`)
        }
        this.sendSome(target, state, offset, data)
      }
      await this.news(signal)
    }
  }

  private sendSome(
    target: { connection: AgentConnection; handle: number },
    state: StdinState,
    offset: number,
    data: Buffer,
  ): void {
    const until = Math.min(state.limit, offset + data.length)
    while (this.sent < until) {
      const piece = data.subarray(this.sent - offset, Math.min(until, this.sent + DATA_MAX) - offset)
      target.connection.sendData(dataChannel(target.handle, STDIN), [offsetBytes(this.sent), piece])
      this.sent += piece.length
    }
  }

  private news(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        signal?.removeEventListener('abort', done)
        resolve()
      }
      this.waiters.push(done)
      signal?.addEventListener('abort', done)
    })
  }

  private wake(): void {
    const waiters = this.waiters
    this.waiters = []
    for (const waiter of waiters) waiter()
  }

  /** The program has ended: what waits is refused. */
  end(): void {
    this.gone ??= new Rejected('EXEC_ENDED', 'the program has ended')
    this.wake()
  }

  stop(): void {
    this.gone ??= new SandtrailError('AGENT_UNREACHABLE', 'the session with the agent was stopped')
    this.wake()
  }
}
