/**
 * What goes over the network, and what proves who is who. A start refuses what is wrong from the beginning; these find
 * what has become wrong since, and what was allowed.
 */

import { stat } from 'node:fs/promises'
import { databaseLink } from '#libs/service'
import { isLoopback, NEAR_EXPIRY_MS, peerExpiry } from '#libs/tls'
import type { Gateway } from './gateway.js'
import type { InstallationCheck } from './installation-check.js'

export function ofEncryption({ encryption, messaging }: Gateway): InstallationCheck[] {
  const { httpHost, certificate, natsUrl, databaseUrl, secretFiles } = encryption
  return [
    {
      name: 'HTTP encryption',
      hint: 'set SANDTRAIL_HTTP_TLS_CERT_FILE and _KEY_FILE of the gateway, and renew them in place',
      async probe() {
        if (certificate === null) {
          if (isLoopback(httpHost)) return 'none: it listens on loopback alone'
          throw new Error(`${httpHost} is served in plaintext: who listens in reads tokens, and what is run`)
        }
        if (certificate.fault !== null) {
          throw new Error(`the new certificate is not in use, the old one ends: ${certificate.fault}`)
        }
        return validUntil(certificate.expiresAt, 'the certificate of HTTP')
      },
    },
    {
      name: 'broker encryption',
      hint: 'give nats-server a certificate (docs/operations.md), and begin SANDTRAIL_NATS_URL with tls://',
      async probe() {
        const { protocol, hostname, port } = new URL(natsUrl)
        const host = bare(hostname)
        if (protocol === 'tls:') {
          const expiresAt = await peerExpiry({ protocol: 'nats', host, port: Number(port || 4222) })
          return validUntil(expiresAt, "the broker's certificate")
        }
        if (messaging.connection.info?.tls_available) {
          throw new Error('the broker offers TLS, and its clients do not ask for it')
        }
        if (isLoopback(host)) return 'none: it is on this host'
        // Not the URL itself: it may hold a password.
        throw new Error(
          `the way to ${host} is plaintext: who listens in reads passwords and commands, env included`,
        )
      },
    },
    {
      name: 'database encryption',
      hint: 'give Postgres a certificate, and SANDTRAIL_DATABASE_URL `sslmode=verify-full` (docs/operations.md)',
      async probe() {
        const link = databaseLink(databaseUrl)
        if (link === null) throw new Error('SANDTRAIL_DATABASE_URL is no URL')
        const { host, port } = link
        if (link.verified) {
          return validUntil(
            await peerExpiry({ protocol: 'postgres', host, port }),
            "the database's certificate",
          )
        }
        if (link.encrypted) {
          throw new Error(
            `sslmode=${link.sslmode} does not verify the server: another one may stand in for it`,
          )
        }
        if (isLoopback(host)) return 'none: it is on this host'
        throw new Error(`the way to ${host} is plaintext: who listens in reads the whole log`)
      },
    },
    {
      name: 'secret files',
      hint: 'chmod 600 it, and make what it holds anew if others were there',
      async probe() {
        for (const path of secretFiles) {
          const info = await stat(path).catch(() => null)
          if (info === null) throw new Error(`${path} is gone: the next start will fail`)
          if ((info.mode & 0o077) !== 0) throw new Error(`others can read ${path}: the next start will fail`)
        }
        return `${secretFiles.length}, which nobody else can read`
      },
    },
  ]
}

/** @throws Error when it has ended, or will soon */
function validUntil(expiresAt: Date, what: string): string {
  const leftMs = +expiresAt - Date.now()
  const day = expiresAt.toISOString().slice(0, 10)
  if (leftMs <= 0) throw new Error(`${what} has expired on ${day}: who connects anew is refused`)
  if (leftMs < NEAR_EXPIRY_MS) throw new Error(`${what} expires on ${day}: from then on nobody can connect`)
  return `TLS; ${what} is valid until ${day}`
}

/** An IPv6 address in a URL has brackets. */
function bare(hostname: string): string {
  return hostname.replace(/^\[|\]$/g, '')
}
