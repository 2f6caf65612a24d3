/**
 * Whoever speaks plain HTTP to the TLS port is told so. Node alone would reset the connection, which looks like a
 * server that is broken.
 */

import type { Server } from 'node:https'
import type { Socket } from 'node:net'

/** First byte of a TLS record that begins a handshake (RFC 8446, 5.1). */
const HANDSHAKE = 0x16
/** Until a client says anything at all; Node's own limit for a handshake begins with its first byte. */
const SILENCE_MS_MAX = 30_000

/** `answer`: what a plaintext client gets; its connection is closed then. Call it before the server listens. */
export function refusePlaintext(server: Server, answer: object): void {
  const body = JSON.stringify(answer)
  const response = [
    'HTTP/1.1 400 Bad Request',
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
  ].join('\r\n')
  // The first is Node's own, which begins TLS; the others only count connections.
  const secure = server.listeners('connection')[0] as (socket: Socket) => void
  server.removeListener('connection', secure)
  server.on('connection', (socket: Socket) => {
    const ignore = () => {} // A client that goes away; afterwards the TLS socket listens.
    socket.on('error', ignore)
    socket.setTimeout(SILENCE_MS_MAX, () => socket.destroy())
    socket.once('data', (first: Buffer) => {
      socket.pause()
      if (first[0] !== HANDSHAKE) return void socket.end(`${response}\r\n\r\n${body}`)
      socket.setTimeout(0)
      socket.removeAllListeners('timeout')
      socket.unshift(first)
      secure.call(server, socket)
    })
  })
}
