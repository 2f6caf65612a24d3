/**
 * Until when a server's certificate is valid, asked of the server itself. Each protocol begins TLS in its own way:
 * HTTPS at once, NATS after the server's INFO line, Postgres after an SSLRequest.
 */

import { once } from 'node:events'
import { connect, isIP, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'

export interface Peer {
  protocol: 'https' | 'nats' | 'postgres'
  host: string
  port: number
}

const WITHIN_MS = 5_000
/** Length 8, then the code that stands for "TLS?" (Postgres' protocol, SSLRequest). */
const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47])

/**
 * The chain is not verified, and no secret is sent: whether the certificate is trusted is told by those who use it.
 *
 * @throws Error when nobody answers, or not by TLS
 */
export async function peerExpiry({ protocol, host, port }: Peer): Promise<Date> {
  const raw = connect({ host, port })
  const giveUp = AbortSignal.timeout(WITHIN_MS)
  try {
    await once(raw, 'connect', { signal: giveUp })
    if (protocol !== 'https') await beginTls(protocol, raw, giveUp)
    const socket = connectTls({
      socket: raw,
      rejectUnauthorized: false,
      ...(isIP(host) ? {} : { servername: host }),
    })
    socket.on('error', () => {})
    await once(socket, 'secureConnect', { signal: giveUp })
    const { valid_to } = socket.getPeerCertificate()
    socket.destroy()
    return new Date(valid_to)
  } finally {
    raw.destroy()
  }
}

async function beginTls(protocol: 'nats' | 'postgres', raw: Socket, signal: AbortSignal): Promise<void> {
  if (protocol === 'postgres') raw.write(SSL_REQUEST)
  const [answer] = (await once(raw, 'data', { signal })) as [Buffer]
  raw.pause()
  const speaksTls =
    protocol === 'postgres' ? answer[0] === 'S'.charCodeAt(0) : answer.toString().startsWith('INFO')
  if (!speaksTls) throw new Error('it speaks no TLS')
}
