/**
 * One port for h2c and TLS: the first byte of a TLS connection is 0x16, that of the HTTP/2 preface is "P". The SDKs need
 * both at once: JavaScript and Go call a command router on localhost in plaintext, whatever the scheme of its URL.
 */

import { once } from 'node:events'
import {
  createServer as createH2Server,
  createSecureServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from 'node:http2'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import type { Log } from '#libs/service'
import { isLoopback, ServerCertificate } from '#libs/tls'
import type { HttpTls } from '../config.js'

const TLS_HANDSHAKE = 0x16
/** A connection that says nothing is nobody's. */
const FIRST_BYTE_MS = 10_000
/** Bytes of a stream in flight, so that a file goes at the pace of the sandbox and not of round trips. */
const WINDOW_BYTES = 4 * 1024 * 1024
const SETTINGS = { initialWindowSize: WINDOW_BYTES, maxConcurrentStreams: 4_096 }

export type Http2Handler = (request: Http2ServerRequest, response: Http2ServerResponse) => void

export interface Listener {
  port: number
  /** Takes no new connection; resolves when calls in hand are answered, or after `graceMs`. */
  close(graceMs: number): Promise<void>
}

export async function listen(
  { host, port, tls, log }: { host: string; port: number; tls: HttpTls | null; log: Log },
  handler: Http2Handler,
): Promise<Listener> {
  const sessions = new Set<ServerHttp2Session>()
  const plain = createH2Server({ settings: SETTINGS }, handler)
  const secure =
    tls === null
      ? null
      : createSecureServer({ settings: SETTINGS, cert: tls.current.cert, key: tls.current.key }, handler)
  const certificate = tls === null ? null : renew(tls, log)
  if (secure !== null) certificate?.start(secure)
  for (const server of secure === null ? [plain] : [plain, secure]) {
    server.on('session', (session) => {
      session.setLocalWindowSize(WINDOW_BYTES)
      sessions.add(session)
      session.once('close', () => sessions.delete(session))
      // Its peer has gone, or speaks something else.
      session.on('error', () => session.destroy())
    })
    server.on('sessionError', () => {})
  }
  const front = createServer((socket) => {
    socket.setTimeout(FIRST_BYTE_MS, () => socket.destroy())
    socket.once('error', () => socket.destroy())
    socket.once('readable', () => {
      const first = socket.read(1) as Buffer | null
      if (first === null) return
      socket.setTimeout(0)
      socket.unshift(first)
      const server = choose(first[0]!, socket)
      if (server === null) socket.destroy()
      else server.emit('connection', socket)
    })
  })
  const choose = (firstByte: number, socket: Socket) => {
    if (firstByte === TLS_HANDSHAKE) return secure
    return secure === null || isLoopback((socket.remoteAddress ?? '').replace('::ffff:', '')) ? plain : null
  }
  front.listen(port, host)
  await once(front, 'listening')
  return {
    port: (front.address() as AddressInfo).port,
    async close(graceMs) {
      certificate?.stop()
      front.close()
      const closed = Promise.all([...sessions].map((session) => once(session, 'close')))
      for (const session of sessions) session.close()
      await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, graceMs).unref())])
      for (const session of sessions) session.destroy()
    },
  }
}

function renew({ current, ...files }: HttpTls, log: Log): ServerCertificate {
  return new ServerCertificate(files, current, (change) => {
    if ('fault' in change)
      log.error(change, 'the new certificate is not usable by the SDK port, the old one stays')
  })
}
