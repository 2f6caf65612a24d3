/** One authenticated stream: frames out, frames in, nothing that outlives it. */

import type { Socket } from 'node:net'
import { controlFrames, type Frame, FrameReader, frameHeader } from './frame.js'
import type { AgentInfo, Disconnection } from './types.js'
import { ProtocolViolation } from './violation.js'

/** Far above what an agent that reads leaves unread: a few exec requests and the acknowledgements of its windows. */
const BACKLOG_BYTES_MAX = 32 * 1024 * 1024

export interface ConnectionHandler {
  onFrame(frame: Frame): void
  onClosed(reason: Disconnection): void
}

export class AgentConnection {
  private reason: Disconnection | null = null
  private closed = false
  private readonly ended = Promise.withResolvers<void>()

  constructor(
    private readonly socket: Socket,
    private readonly reader: FrameReader,
    readonly info: AgentInfo,
  ) {}

  /** Starts to read. `onFrame` may throw a ProtocolViolation, which ends the connection. */
  open(handler: ConnectionHandler): void {
    this.socket.on('data', (chunk: Buffer) => {
      if (this.reason) return
      try {
        for (const frame of this.reader.push(chunk)) {
          handler.onFrame(frame)
          if (this.reason) return
        }
      } catch (error) {
        if (!(error instanceof ProtocolViolation)) throw error
        void this.close({ code: error.code, message: error.message })
      }
    })
    const onClose = () => {
      this.closed = true
      handler.onClosed(this.reason ?? { code: 'CLOSED', message: 'the agent closed the stream' })
      this.ended.resolve()
    }
    if (this.socket.closed) queueMicrotask(onClose)
    else this.socket.once('close', onClose)
    this.socket.resume()
  }

  get isOpen(): boolean {
    return !this.closed && this.reason === null
  }

  sendMessage(message: object): void {
    this.send(controlFrames(message))
  }

  sendData(channel: number, parts: Buffer[]): void {
    const length = parts.reduce((sum, part) => sum + part.length, 0)
    this.send([frameHeader(channel, length), ...parts])
  }

  private send(buffers: Buffer[]): void {
    if (!this.isOpen) return
    this.socket.cork()
    for (const buffer of buffers) this.socket.write(buffer)
    this.socket.uncork()
    if (this.socket.writableLength > BACKLOG_BYTES_MAX) {
      void this.close({ code: 'NOT_READING', message: 'the agent sends but does not read' })
    }
  }

  pause(): void {
    this.socket.pause()
  }

  resume(): void {
    if (this.isOpen) this.socket.resume()
  }

  /** Resolves when `onClosed` has been called. */
  close(reason: Disconnection): Promise<void> {
    this.reason ??= reason
    this.socket.destroy()
    return this.ended.promise
  }
}
