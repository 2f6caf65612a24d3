/**
 * The door: anything inside the sandbox can connect to the socket, so a peer is nobody until its first frame carries
 * the token. Peers that wait never disturb the connection that is authenticated.
 */

import { createHash, timingSafeEqual } from 'node:crypto'
import { chmodSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { Rejected } from '#libs/domain'
import { AgentConnection } from './connection.js'
import { CONTROL, FrameReader } from './frame.js'
import { PROTOCOL, parseMessage } from './messages.js'
import type { AgentLog } from './types.js'
import { ProtocolViolation } from './violation.js'

/** An agent says hello at once when it has connected. */
const HELLO_MS_MAX = 2_000
/** More than one honest agent ever needs; past it the oldest goes, since an honest one is never the oldest for long. */
const PENDING_MAX = 8
const LOG_EVERY = 1_000
/** `sun_path` less its final zero byte. */
const SOCKET_PATH_BYTES_MAX = 107

export class AgentListener {
  private server: Server | null = null
  private readonly pending = new Set<Socket>()
  private readonly tokenHash: Buffer
  private refused = 0

  constructor(
    private readonly socketPath: string,
    token: string,
    private readonly onAuthenticated: (connection: AgentConnection) => void,
    private readonly log: AgentLog,
  ) {
    if (Buffer.byteLength(socketPath) > SOCKET_PATH_BYTES_MAX) {
      throw new Rejected('INVALID_ARGUMENT', `a socket's path has at most ${SOCKET_PATH_BYTES_MAX} bytes`)
    }
    if (token.length < 16)
      throw new Rejected('INVALID_ARGUMENT', 'the agent token is too short to be a secret')
    this.tokenHash = hash(token)
  }

  /** Listens; what a former life of this process left at the path is replaced. */
  async start(): Promise<void> {
    if (this.server) return
    rmSync(this.socketPath, { force: true })
    const server = createServer((socket) => this.onPeer(socket))
    this.server = server
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(this.socketPath, () => {
        server.off('error', reject)
        resolve()
      })
    })
    server.on('error', (error) => this.log.error({ err: error }, 'agent socket failed'))
    // The gofer connects for whoever is inside; who may come near is decided by the directory, who is let in by the
    // token.
    chmodSync(this.socketPath, 0o666)
  }

  async stop(): Promise<void> {
    const server = this.server
    this.server = null
    for (const socket of this.pending) socket.destroy()
    if (server) await new Promise<void>((resolve) => server.close(() => resolve()))
  }

  private onPeer(socket: Socket): void {
    const reader = new FrameReader()
    const timer = setTimeout(() => socket.destroy(), HELLO_MS_MAX)
    this.pending.add(socket)
    if (this.pending.size > PENDING_MAX) this.pending.values().next().value?.destroy()

    const leave = () => {
      clearTimeout(timer)
      this.pending.delete(socket)
    }
    const onData = (chunk: Buffer) => {
      try {
        const frames = reader.push(chunk)
        const hello = frames[0]
        if (!hello) return
        if (frames.length > 1 || reader.isInside) {
          throw new ProtocolViolation('BAD_HELLO', 'the peer went on before it was answered')
        }
        const info = this.authenticate(hello.channel, hello.payload)
        leave()
        socket.off('data', onData)
        socket.off('close', leave)
        socket.pause()
        this.onAuthenticated(new AgentConnection(socket, reader, info))
      } catch (error) {
        if (!(error instanceof ProtocolViolation)) throw error
        // Whoever is inside can do this all day: the log must not be what it fills.
        if (this.refused++ % LOG_EVERY === 0) {
          this.log.warn({ code: error.code, refused: this.refused }, 'agent peer refused')
        }
        socket.destroy()
      }
    }
    socket.on('error', () => socket.destroy()) // A reset is a close; the 'close' event follows.
    socket.on('close', leave)
    socket.on('data', onData)
  }

  private authenticate(channel: number, payload: Buffer) {
    if (channel !== CONTROL) throw new ProtocolViolation('BAD_HELLO', 'the first frame is no hello')
    const hello = parseMessage(payload)
    if (hello.op !== 'hello') throw new ProtocolViolation('BAD_HELLO', 'the first message is no hello')
    if (!timingSafeEqual(hash(hello.token), this.tokenHash)) {
      throw new ProtocolViolation('BAD_TOKEN', 'the peer does not have the token')
    }
    if (hello.protocol !== PROTOCOL) {
      throw new ProtocolViolation('BAD_HELLO', `the agent speaks version ${hello.protocol}, not ${PROTOCOL}`)
    }
    return { bootId: hello.bootId, version: hello.version }
  }
}

function hash(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
