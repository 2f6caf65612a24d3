/**
 * The data plane's self-signed certificate: made once, kept in `<state>/data-plane`, told to gateways in each heartbeat,
 * which trust this one and no other. No authority is needed for that.
 */

import { execFile } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { chmod, mkdir, readFile, rename } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { SandtrailError } from '#libs/domain'

const run = promisify(execFile)
const DAYS_VALID = 3650
const RENEW_BEFORE_MS = 30 * 24 * 3_600_000

export interface Certificate {
  key: string
  /** PEM. */
  certificate: string
}

/** For `host`, the name or address in the data plane's URL. A new one is made when that changes or time runs out. */
export async function loadCertificate(stateDir: string, host: string): Promise<Certificate> {
  const dir = join(stateDir, 'data-plane')
  await mkdir(dir, { recursive: true, mode: 0o700 })
  const known = await readPair(dir)
  if (known !== null && isUsable(known, host)) return known
  await make(dir, host)
  const made = await readPair(dir)
  if (made === null) throw new SandtrailError('INTERNAL', `openssl left no certificate in ${dir}`)
  return made
}

async function make(dir: string, host: string): Promise<void> {
  const names = isIP(host) ? `IP:${host}` : `DNS:${host}`
  const [key, cert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')]
  const argv = [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-sha256'],
    ...['-days', `${DAYS_VALID}`, '-subj', '/CN=sandtrail-worker', '-addext', `subjectAltName=${names}`],
    ...['-keyout', `${key}.new`, '-out', `${cert}.new`],
  ]
  try {
    await run('openssl', argv, { timeout: 30_000 })
  } catch (cause) {
    throw new SandtrailError('UNAVAILABLE', 'openssl could not make the certificate of the data plane', {
      hint: 'install openssl',
      cause,
    })
  }
  await chmod(`${key}.new`, 0o600)
  await rename(`${key}.new`, key)
  await rename(`${cert}.new`, cert)
}

async function readPair(dir: string): Promise<Certificate | null> {
  try {
    const [key, certificate] = await Promise.all([
      readFile(join(dir, 'key.pem'), 'utf8'),
      readFile(join(dir, 'cert.pem'), 'utf8'),
    ])
    return { key, certificate }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

function isUsable({ certificate }: Certificate, host: string): boolean {
  const parsed = new X509Certificate(certificate)
  const matches = isIP(host) ? parsed.checkIP(host) : parsed.checkHost(host)
  return matches !== undefined && parsed.validToDate.getTime() > Date.now() + RENEW_BEFORE_MS
}
