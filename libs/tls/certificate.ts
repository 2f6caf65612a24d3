/** Certificates in PEM files, checked when they are read: a server must not find out from its clients. */

import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'

/** What a server shows, and proves that it is. */
export interface TlsIdentity {
  /** PEM: the server's own certificate, then those between it and the authority. */
  cert: string
  /** PEM. */
  key: string
  expiresAt: Date
}

/** From here on `doctor` and the log of the service say so: what renews them by itself does it a month before. */
export const NEAR_EXPIRY_MS = 14 * 24 * 3_600_000

const CERTIFICATES = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g

/** @throws Error with what is wrong and what to do; no part of a key is in it */
export function readIdentity(certFile: string, keyFile: string, now = Date.now()): TlsIdentity {
  const cert = readText(certFile)
  const own = parseAll(cert, certFile)[0]!
  if (((statSync(keyFile, { throwIfNoEntry: false })?.mode ?? 0) & 0o077) !== 0) {
    throw new Error(`others can read the file ${keyFile}: chmod 600 it`)
  }
  const key = readText(keyFile)
  if (!isKeyOf(own, key, keyFile)) {
    throw new Error(
      `the key in ${keyFile} is not that of the certificate in ${certFile}: give both of one pair`,
    )
  }
  checkDates(own, certFile, now)
  return { cert, key, expiresAt: own.validToDate }
}

/** The PEM of authorities. @throws Error when there is none that counts today */
export function readAuthorities(file: string, now = Date.now()): string {
  const text = readText(file)
  const authorities = parseAll(text, file)
  const valid = authorities.filter(
    ({ validFromDate, validToDate }) => +validFromDate <= now && +validToDate > now,
  )
  if (valid.length === 0) checkDates(authorities[0]!, file, now)
  return text
}

/** Of the first certificate in `pem`. */
export function expiryOf(pem: string): Date {
  return new X509Certificate(pem).validToDate
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    throw new Error(`cannot read the file ${file}`)
  }
}

function parseAll(text: string, file: string): X509Certificate[] {
  try {
    const found = (text.match(CERTIFICATES) ?? []).map((pem) => new X509Certificate(pem))
    if (found.length > 0) return found
  } catch {
    // Told below.
  }
  throw new Error(`${file} holds no certificate as PEM`)
}

function isKeyOf(certificate: X509Certificate, pem: string, file: string): boolean {
  try {
    return certificate.checkPrivateKey(createPrivateKey(pem))
  } catch {
    throw new Error(`${file} holds no private key as PEM without a passphrase`)
  }
}

function checkDates({ validFromDate, validToDate }: X509Certificate, file: string, now: number): void {
  if (+validToDate <= now) {
    throw new Error(`the certificate in ${file} has expired on ${day(validToDate)}: renew it`)
  }
  if (+validFromDate > now) {
    throw new Error(
      `the certificate in ${file} is valid from ${day(validFromDate)} on: see the clock of this host`,
    )
  }
}

const day = (date: Date) => date.toISOString().slice(0, 10)
