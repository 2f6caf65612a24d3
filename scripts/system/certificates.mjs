/**
 * Certificates of an installation's own: one authority, made once, and with it one certificate each for the gateway, the
 * broker and the database. `keys/ca.pem` is what clients are given; `keys/ca.key` is needed for renewals alone.
 */
import { X509Certificate } from 'node:crypto'
import { chmodSync, chownSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { sh } from './tools.mjs'

const AUTHORITY_DAYS = 3650
/** What browsers and other clients take at most. */
const DAYS = 397
const RENEW_BEFORE_MS = 30 * 24 * 3_600_000
const NAMES = ['localhost', '127.0.0.1', '::1']
const SERVERS = /** @type {const} */ (['gateway', 'nats', 'postgres'])

/**
 * @typedef {{ cert: string, key: string }} Pair paths
 * @typedef {{ ca: string, gateway: Pair, nats: Pair, postgres: Pair }} Certificates
 */

/** Where they are, whether or not they are there. @param {(name: string) => string} path @returns {Certificates} */
function pathsOf(path) {
  const pair = (/** @type {string} */ server) => ({
    cert: path(`${server}-tls.pem`),
    key: path(`${server}-tls.key`),
  })
  return { ca: path('ca.pem'), gateway: pair('gateway'), nats: pair('nats'), postgres: pair('postgres') }
}

/** Those of an installation that has TLS; null: it has none. @param {(name: string) => string} path in the keys directory */
export function findCertificates(path) {
  const paths = pathsOf(path)
  return existsSync(paths.ca) ? paths : null
}

/**
 * Makes what is missing, ends within 30 days, lacks a name, or is of another authority. The servers find new files in
 * the place of the old ones: the gateway by itself, the others when they are told.
 *
 * @param {(name: string) => string} path in the keys directory @param {string[]} [names] names and addresses by which
 *   the servers are reached from other hosts
 * @returns {Promise<Certificates>}
 */
export async function ensureCertificates(path, names = []) {
  const paths = pathsOf(path)
  const { ca } = paths
  if (!existsSync(ca)) await makeAuthority(ca, path('ca.key'))
  for (const server of SERVERS) {
    // A renewal keeps the names that were asked for before.
    const wanted = [...new Set([...NAMES, ...names, ...namesOf(paths[server].cert)])]
    if (isGood(paths[server].cert, ca, wanted)) continue
    await makeServer(paths[server], { name: server, ca, caKey: path('ca.key'), names: wanted })
  }
  return paths
}

/**
 * Puts a server's pair where the user that it runs as can read it.
 * @param {Pair} pair @param {string} home @param {{ uid?: number, gid?: number }} user
 * @returns {Pair & { changed: boolean }}
 */
export function installPair({ cert, key }, home, { uid, gid = uid }) {
  const installed = { cert: join(home, 'tls.pem'), key: join(home, 'tls.key') }
  const read = (/** @type {string} */ file) => (existsSync(file) ? readFileSync(file, 'utf8') : null)
  const changed = read(installed.cert) !== read(cert) || read(installed.key) !== read(key)
  if (changed) {
    for (const [from, to] of /** @type {const} */ ([
      [key, installed.key],
      [cert, installed.cert],
    ])) {
      writeFileSync(`${to}.new`, readFileSync(from), { mode: 0o600 })
      if (uid !== undefined && gid !== undefined) chownSync(`${to}.new`, uid, gid)
      renameSync(`${to}.new`, to)
    }
  }
  return { ...installed, changed }
}

/** Of a certificate that is there. @param {string} cert @returns {string[]} */
function namesOf(cert) {
  if (!existsSync(cert)) return []
  const { subjectAltName = '' } = new X509Certificate(readFileSync(cert))
  return [...subjectAltName.matchAll(/(?:DNS|IP Address):([^,\s]+)/g)].map(([, name = '']) => name)
}

/** @param {string} cert @param {string} ca @param {string[]} names */
function isGood(cert, ca, names) {
  if (!existsSync(cert)) return false
  const known = new X509Certificate(readFileSync(cert))
  return (
    known.verify(new X509Certificate(readFileSync(ca)).publicKey) &&
    known.validToDate.getTime() > Date.now() + RENEW_BEFORE_MS &&
    names.every((name) => (isIP(name) ? known.checkIP(name) : known.checkHost(name)) !== undefined)
  )
}

/** @param {string} cert @param {string} key */
async function makeAuthority(cert, key) {
  await openssl({ cert, key }, AUTHORITY_DAYS, '/CN=Sandtrail authority', [
    'basicConstraints=critical,CA:TRUE,pathlen:0',
    'keyUsage=critical,keyCertSign,cRLSign',
  ])
}

/** @param {Pair} pair @param {{ name: string, ca: string, caKey: string, names: string[] }} of */
async function makeServer(pair, { name, ca, caKey, names }) {
  const subject = names.map((each) => `${isIP(each) ? 'IP' : 'DNS'}:${each}`).join(',')
  const extensions = [
    `subjectAltName=${subject}`,
    'basicConstraints=critical,CA:FALSE',
    'keyUsage=critical,digitalSignature',
    'extendedKeyUsage=serverAuth',
  ]
  await openssl(pair, DAYS, `/CN=sandtrail-${name}`, extensions, ['-CA', ca, '-CAkey', caKey])
}

/** The key first: a certificate that is there has its key. @param {Pair} pair @param {number} days @param {string} subject
 * @param {string[]} extensions @param {string[]} [signer] */
async function openssl({ cert, key }, days, subject, extensions, signer = []) {
  // Made before openssl writes to it: a private key is nobody else's for no moment.
  writeFileSync(`${key}.new`, '', { mode: 0o600 })
  chmodSync(`${key}.new`, 0o600)
  await sh('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-sha256'],
    ...['-config', '/dev/null', '-days', `${days}`, '-subj', subject, ...signer],
    ...extensions.flatMap((extension) => ['-addext', extension]),
    ...['-keyout', `${key}.new`, '-out', `${cert}.new`],
  ])
  chmodSync(`${cert}.new`, 0o644)
  rmSync(cert, { force: true })
  renameSync(`${key}.new`, key)
  renameSync(`${cert}.new`, cert)
}
