/**
 * Requests to the agent. Each may be sent twice with one effect, so one that was under way when the stream was lost
 * is sent again on the next; each has a deadline, after which the caller no longer waits.
 */

import { Rejected, SandtrailError } from '#libs/domain'
import type { AgentConnection } from './connection.js'
import { ProtocolViolation } from './violation.js'

interface Pending {
  /** Made anew for each sending: offsets may have moved. */
  message: () => object
  accept: (result: unknown) => void
  refuse: (error: Error) => void
  timer: NodeJS.Timeout | undefined
  /** The caller has gone; the answer still counts while its connection lasts. */
  abandoned: boolean
}

export class AgentRequests {
  private readonly pending = new Map<number, Pending>()
  private lastId = 0
  private connection: AgentConnection | null = null
  private stopped = false

  /**
   * Asks, and resolves with what `accept` makes of the answer. `accept` runs before the next frame is looked at.
   * @throws SandtrailError AGENT_UNREACHABLE when no answer came in `deadlineMs` (null: waits for ever); Rejected as
   * the agent refuses.
   */
  call<T>(message: () => object, accept: (result: unknown) => T, deadlineMs: number | null): Promise<T> {
    if (this.stopped) return Promise.reject(stoppedError())
    const id = ++this.lastId
    return new Promise<T>((resolve, reject) => {
      const entry: Pending = {
        message: () => ({ ...message(), id }),
        accept: (result) => {
          try {
            resolve(accept(result))
          } catch (error) {
            reject(
              new SandtrailError('AGENT_UNREACHABLE', 'the agent gave an impossible answer', {
                cause: error,
              }),
            )
            throw error
          }
        },
        refuse: reject,
        timer: undefined,
        abandoned: false,
      }
      if (deadlineMs !== null) entry.timer = setTimeout(() => this.abandon(id, entry, deadlineMs), deadlineMs)
      this.pending.set(id, entry)
      this.connection?.sendMessage(entry.message())
    })
  }

  private abandon(id: number, entry: Pending, deadlineMs: number): void {
    entry.refuse(new SandtrailError('AGENT_UNREACHABLE', `the agent gave no answer in ${deadlineMs} ms`))
    entry.abandoned = true
    if (!this.connection) this.pending.delete(id)
  }

  /** The agent has listed its execs on a new connection: what waits is sent. */
  attach(connection: AgentConnection): void {
    this.connection = connection
    for (const entry of this.pending.values()) connection.sendMessage(entry.message())
  }

  /** The connection is lost: what nobody waits for any more is forgotten, since no answer can come. */
  detach(): void {
    this.connection = null
    for (const [id, entry] of this.pending) {
      if (entry.abandoned) this.pending.delete(id)
    }
  }

  /** @throws ProtocolViolation when nothing was asked with this id, or the answer is not one. */
  onDone(id: number, result: unknown): void {
    this.take(id).accept(result)
  }

  /** @throws ProtocolViolation when nothing was asked with this id. */
  onRefused(id: number, code: string, message: string): void {
    this.take(id).refuse(refusal(code, message))
  }

  private take(id: number): Pending {
    const entry = this.pending.get(id)
    if (!entry) throw new ProtocolViolation('UNEXPECTED', 'an answer to nothing that was asked')
    this.pending.delete(id)
    clearTimeout(entry.timer)
    return entry
  }

  stop(): void {
    this.stopped = true
    this.connection = null
    for (const entry of this.pending.values()) {
      clearTimeout(entry.timer)
      entry.refuse(stoppedError())
    }
    this.pending.clear()
  }
}

function stoppedError(): SandtrailError {
  return new SandtrailError('AGENT_UNREACHABLE', 'the session with the agent was stopped')
}

/** The agent's own codes, as those that callers know. */
function refusal(code: string, message: string): Error {
  switch (code) {
    case 'EXEC_NOT_FOUND':
    case 'EXEC_ENDED':
      return new Rejected(code, message)
    case 'INVALID':
    case 'BAD_OFFSET':
    case 'NO_TERMINAL':
    case 'TARGET_BUSY':
    case 'NOT_BOUND':
      return new Rejected('INVALID_ARGUMENT', message)
    case 'SYNC_TIMEOUT':
      return new SandtrailError('DEADLINE_EXCEEDED', message)
    default:
      return new SandtrailError(
        'INTERNAL',
        `the agent refused (${/^\w{1,40}$/.test(code) ? code : '?'}): ${message}`,
      )
  }
}
