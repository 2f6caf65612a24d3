/**
 * What leaves this host is encrypted, and the other side verified, unless somebody has said that it need not be: rules
 * over several keys of the environment, read before anything is opened.
 */

import { isLoopback, readAuthorities, readIdentity } from '#libs/tls'

/** What SANDTRAIL_PLAINTEXT_ALLOWED may name. */
export const PLAINTEXT_NAMES = ['http', 'nats', 'postgres'] as const
export type PlaintextName = (typeof PLAINTEXT_NAMES)[number]

type Given = Readonly<Record<string, string | undefined>>

/** Each as `KEY: what is wrong, what to do`. Keys of another form are told by their schema. */
export function encryptionFaults(given: Given): string[] {
  const allowed = (given.SANDTRAIL_PLAINTEXT_ALLOWED ?? '').split(',')
  const faults: string[] = []
  const fault = (key: string, text: string) => faults.push(`${key}: ${text}`)
  const refuse = (key: string, name: PlaintextName, text: string) => {
    if (allowed.includes(name)) return
    fault(key, `${text}, or SANDTRAIL_PLAINTEXT_ALLOWED=${name} where the network is trusted`)
  }
  const { SANDTRAIL_NATS_URL: nats, SANDTRAIL_DATABASE_URL: database } = given

  const broker = parse(nats)
  if (broker?.protocol === 'nats:' && !isLoopback(broker.hostname)) {
    refuse('SANDTRAIL_NATS_URL', 'nats', 'would send passwords in plaintext over the network: use tls://')
  }

  const link = databaseLink(database)
  if (link !== null && !SSL_MODES.has(link.sslmode)) {
    fault('SANDTRAIL_DATABASE_URL', `sslmode=${link.sslmode} does not say who is verified: use verify-full`)
  } else if (link !== null && !link.verified && !isLoopback(link.host)) {
    const what = link.encrypted ? 'does not verify the server' : 'is in plaintext over the network'
    refuse('SANDTRAIL_DATABASE_URL', 'postgres', `${what}: use sslmode=verify-full`)
  }
  if (link?.authority) attempt('SANDTRAIL_DATABASE_URL', () => readAuthorities(link.authority!), fault)

  const { SANDTRAIL_HTTP_TLS_CERT_FILE: cert, SANDTRAIL_HTTP_TLS_KEY_FILE: key } = given
  if (cert && key) attempt('SANDTRAIL_HTTP_TLS_CERT_FILE', () => readIdentity(cert, key), fault)
  else if (cert || key) {
    const [set, missing] = cert ? ['CERT', 'KEY'] : ['KEY', 'CERT']
    fault(
      `SANDTRAIL_HTTP_TLS_${missing}_FILE`,
      `is not set, and SANDTRAIL_HTTP_TLS_${set}_FILE is: both or none`,
    )
  } else if (given.SANDTRAIL_HTTP_HOST && !isLoopback(given.SANDTRAIL_HTTP_HOST)) {
    const text =
      'is reached from other hosts, and tokens would come in plaintext: set SANDTRAIL_HTTP_TLS_CERT_FILE'
    refuse('SANDTRAIL_HTTP_HOST', 'http', `${text} and _KEY_FILE`)
  }
  if (cert && key && parse(given.SANDTRAIL_PUBLIC_URL)?.protocol !== 'https:') {
    fault('SANDTRAIL_PUBLIC_URL', 'must begin with https://, since the gateway speaks TLS')
  }
  return faults
}

export interface DatabaseLink {
  host: string
  port: number
  sslmode: string
  encrypted: boolean
  /** The server's certificate and name are checked. */
  verified: boolean
  /** The file of the authorities that it is checked by; null: the system's. */
  authority: string | null
}

/** What pg takes without asking back: it reads the others as verify-full, libpq does not. */
const SSL_MODES: ReadonlySet<string> = new Set(['disable', 'no-verify', 'verify-full'])

/** How a `postgres://` URL connects; null when it is none. */
export function databaseLink(text: string | undefined): DatabaseLink | null {
  const url = parse(text)
  if (url === null || !/^postgres(ql)?:$/.test(url.protocol)) return null
  const sslmode = url.searchParams.get('sslmode') ?? 'disable'
  const socket = url.searchParams.get('host')
  return {
    // A socket's directory is on this host.
    host: socket === null ? url.hostname || 'localhost' : socket.startsWith('/') ? 'localhost' : socket,
    port: Number(url.port || 5432),
    sslmode,
    encrypted: sslmode !== 'disable',
    verified: sslmode === 'verify-full',
    authority: url.searchParams.get('sslrootcert'),
  }
}

/** The URL with `caFile` as its authority, where it verifies and names none itself. */
export function withAuthority(text: string, caFile: string | undefined): string {
  const link = databaseLink(text)
  if (caFile === undefined || link === null || !link.verified || link.authority !== null) return text
  const url = new URL(text)
  url.searchParams.set('sslrootcert', caFile)
  return url.href
}

function parse(text: string | undefined): URL | null {
  return text !== undefined && URL.canParse(text) ? new URL(text) : null
}

function attempt(key: string, read: () => unknown, fault: (key: string, text: string) => void): void {
  try {
    read()
  } catch (error) {
    fault(key, (error as Error).message)
  }
}
