/** One connection to the broker, which is never given up: while the broker is away, requests fail with a code. */

import { isIP } from 'node:net'
import {
  type ConnectionOptions,
  connect as connectTransport,
  errors,
  nkeyAuthenticator,
  usernamePasswordAuthenticator,
} from '@nats-io/transport-node'
import { SandtrailError } from '#libs/domain'
import { tlsTrouble } from '#libs/tls'
import { publicKeyOf } from './identity.js'
import type { MessagingLog } from './log.js'
import { Messaging } from './messaging.js'

export type Credentials = { user: string; password: string } | { nkeySeed: string }

export interface ConnectOptions {
  /** `nats://host:port`, or several of one cluster. With `tls://` there is no talk without TLS. */
  servers: string | string[]
  /** Shown in the broker's connection list. */
  name: string
  credentials: Credentials
  /** For `tls://`. PEM of the authority that signed the broker's certificate; its name is always checked. */
  tls?: { ca?: string; cert?: string; key?: string }
  log?: MessagingLog
  /** Stop waiting for a broker that is not there yet after this long; default: wait for ever. */
  connectWithinMs?: number
}

const RETRY_MS = 250
const SILENT: MessagingLog = { info: () => {}, warn: () => {}, error: () => {} }

/**
 * Connects, and waits for a broker that is not up yet.
 *
 * @throws SandtrailError UNAUTHENTICATED when the broker refuses the credentials, TLS_FAILED when it cannot be trusted
 * or one side speaks no TLS, UNAVAILABLE after `connectWithinMs`.
 */
export async function connect(options: ConnectOptions): Promise<Messaging> {
  const log = options.log ?? SILENT
  const giveUpAt = performance.now() + (options.connectWithinMs ?? Number.POSITIVE_INFINITY)
  for (let attempt = 1; ; attempt++) {
    try {
      return new Messaging(await connectTransport(transportOptions(options)), log)
    } catch (cause) {
      if (cause instanceof errors.AuthorizationError) {
        throw new SandtrailError('UNAUTHENTICATED', 'the broker refuses the credentials', { cause })
      }
      const distrust = tlsTrouble(cause, 'the broker')
      if (distrust !== null) throw isSecure(options.servers) ? distrust : wantsTls(cause)
      if (performance.now() > giveUpAt) {
        throw new SandtrailError('UNAVAILABLE', 'the broker cannot be reached', { cause })
      }
      if (attempt === 1) log.warn({ err: cause }, 'the broker is not there yet, waiting')
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
    }
  }
}

/** The client follows a broker that wants TLS, but knows no authority then: what it says would mislead. */
function wantsTls(cause: unknown): SandtrailError {
  return new SandtrailError('TLS_FAILED', 'the broker wants TLS', {
    hint: 'begin its URL with tls://, and name its authority: SANDTRAIL_CA_FILE',
    cause,
  })
}

function isSecure(servers: string | string[]): boolean {
  return [servers].flat().some((url) => url.startsWith('tls://'))
}

/**
 * Replies come to an inbox of the user alone: nobody else may subscribe to it, see nats-config.ts.
 */
export function inboxPrefix(credentials: Credentials): string {
  return `_INBOX.${'user' in credentials ? credentials.user : publicKeyOf(credentials.nkeySeed)}`
}

function transportOptions({ servers, name, credentials, tls }: ConnectOptions): ConnectionOptions {
  return {
    servers,
    name,
    authenticator:
      'user' in credentials
        ? usernamePasswordAuthenticator(credentials.user, credentials.password)
        : nkeyAuthenticator(new TextEncoder().encode(credentials.nkeySeed)),
    inboxPrefix: inboxPrefix(credentials),
    ...(isSecure(servers) ? { tls: { ...tls, ...addressOf(servers) } } : {}),
    maxReconnectAttempts: -1,
    // A broker that reads a new configuration may refuse a known user for a moment.
    ignoreAuthErrorAbort: true,
    reconnectTimeWait: RETRY_MS,
    reconnectJitter: RETRY_MS,
    // A dead peer is noticed after 15 s at the latest, also when no RST ever comes.
    pingInterval: 5_000,
    maxPingOut: 2,
  }
}

/** Of an address the client tells TLS nothing, and `localhost` would be checked instead. */
function addressOf(servers: string | string[]): { host?: string } {
  const host = new URL([servers].flat()[0]!).hostname.replace(/^\[|\]$/g, '')
  return isIP(host) ? { host } : {}
}
