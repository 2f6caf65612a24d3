/** Why TLS with a peer did not come about, in words: drivers wrap it, and their own text says what, never what to do. */

import { SandtrailError } from '#libs/domain'

/** What it is about the peer, and what to do. By OpenSSL's and Node's codes. */
const CAUSES: Record<string, readonly [what: string, hint: string]> = {
  CERT_HAS_EXPIRED: ['its certificate has expired', 'renew the certificate there'],
  CERT_NOT_YET_VALID: ['its certificate is not valid yet', 'see the clocks of both hosts'],
  CERT_REVOKED: ['its certificate was revoked', 'give that server another certificate'],
  ERR_TLS_CERT_ALTNAME_INVALID: [
    'its certificate is for another name',
    'use a name or address that stands in the certificate, or have one made with this name',
  ],
}
const UNTRUSTED = [
  'its certificate is not of an authority that is trusted here',
  'name the file with the certificate of its authority: SANDTRAIL_CA_FILE',
] as const
for (const code of [
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'CERT_SIGNATURE_FAILURE',
  'CERT_UNTRUSTED',
  'INVALID_CA',
]) {
  CAUSES[code] = UNTRUSTED
}

const NO_TLS = [
  'it speaks no TLS',
  'configure TLS there, or connect without it where nobody listens in',
] as const
const WANTS_TLS = [
  'it is spoken to without TLS, and wants it',
  'use a URL with TLS: https://, tls://, sslmode=verify-full',
] as const

/** What only the text tells. */
const TEXTS: readonly [RegExp, readonly [string, string]][] = [
  // OpenSSL, when the other side answers in plaintext.
  [/wrong version number|packet length too long|ERR_SSL_(WRONG_VERSION|PACKET_LENGTH)/i, NO_TLS],
  // pg; nats-core and transport-node.
  [
    /server does not support (SSL|'tls')|'tls' is not available on this server|'tls': is not available/i,
    NO_TLS,
  ],
  // Postgres' pg_hba.conf with hostssl alone.
  [/no pg_hba\.conf entry for .*no encryption/, WANTS_TLS],
]

/**
 * The TLS trouble that is the cause of `error`, however deep; null when it is none. `peer`: what cannot be talked to,
 * such as `the broker`.
 */
export function tlsTrouble(error: unknown, peer: string): SandtrailError | null {
  // Not by its class: an error of Node's own may come from another realm, in tests it does.
  for (let at = error, depth = 0; typeof at === 'object' && at !== null && depth < 10; depth++) {
    const [what, hint] = explain(at as NodeJS.ErrnoException) ?? []
    at = (at as Error).cause
    if (what !== undefined) {
      return new SandtrailError('TLS_FAILED', `no TLS with ${peer}: ${what}`, { hint: hint!, cause: error })
    }
  }
  return null
}

function explain({ code, message }: NodeJS.ErrnoException): readonly [string, string] | undefined {
  if (Object.hasOwn(CAUSES, code ?? '')) return CAUSES[code!]
  return TEXTS.find(([pattern]) => pattern.test(`${code} ${message}`))?.[1]
}
