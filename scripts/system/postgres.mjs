/** A Postgres server of our own: own data directory, 127.0.0.1 only, a random password, never the machine's cluster. */
import { randomBytes } from 'node:crypto'
import { chownSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { installPair } from './certificates.mjs'
import { forgetPort, isFree, portFor } from './ports.mjs'
import { findProcess, isAlive, launch, signal } from './processes.mjs'
import { sh, tools, userFor } from './tools.mjs'
import { until } from './until.mjs'

const ATTEMPTS_MAX = 20
const RETRY_MS = 500

/**
 * Starts the server of this system unless it runs, and waits until it answers.
 *
 * @param {string} dir state directory of the system
 * @param {{ log: string, certificates?: import('./certificates.mjs').Certificates | null }} options `certificates`: with
 *   them nobody gets in without TLS
 * @returns {Promise<string>} the superuser's URL
 */
export async function startPostgres(dir, { log, certificates = null }) {
  const data = join(dir, 'postgres', 'data')
  const user = userFor('postgres', 'nobody')
  if (!existsSync(join(data, 'PG_VERSION'))) await createCluster(dir, data, user)
  const password = readFileSync(join(dir, 'postgres', 'password'), 'utf8')
  const pair = certificates && installPair(certificates.postgres, join(dir, 'postgres'), user)
  if (pair) requireTls(data)
  const tls = certificates ? `?sslmode=verify-full&sslrootcert=${encodeURIComponent(certificates.ca)}` : ''

  for (let attempt = 1; ; attempt++) {
    const port = await portFor(dir, 'postgres')
    const url = `postgres://postgres:${password}@127.0.0.1:${port}/postgres${tls}`
    let record = findProcess(dir, 'postgres')
    if (record === null || !isAlive(record)) record = launchPostgres(dir, { data, port, user, log, pair })
    else if (pair?.changed) signal(record, 'SIGHUP')
    if (await answers(url, record)) return url
    if (attempt === ATTEMPTS_MAX) throw new Error(`Postgres did not start: see ${log}`)
    // Whoever knows the port must find us there again, so it is given up only for somebody who was faster to take it.
    // Otherwise it is the children of a server that was killed: they hold its memory for as long as they need to notice.
    if (await isFree(port)) await delay(RETRY_MS)
    else forgetPort(dir, 'postgres')
  }
}

/** @param {string} dir @param {string} data @param {{ uid?: number, gid?: number }} user */
async function createCluster(dir, data, user) {
  const home = join(dir, 'postgres')
  mkdirSync(home, { recursive: true, mode: 0o700 })
  if (user.uid !== undefined) chownSync(home, user.uid, user.gid ?? user.uid)
  rmSync(data, { recursive: true, force: true }) // Half made by a start that was interrupted.
  const password = randomBytes(24).toString('base64url')
  // Read by initdb, which runs as another user.
  const passwordFile = join(home, 'password')
  writeFileSync(passwordFile, password, { mode: 0o600 })
  if (user.uid !== undefined) chownSync(passwordFile, user.uid, user.gid ?? user.uid)
  const args = ['--pgdata', data, '--username=postgres', `--pwfile=${passwordFile}`, '--auth=scram-sha-256']
  args.push('--data-checksums', '--encoding=UTF8', '--locale=C.UTF-8')
  await sh(join(tools().SANDTRAIL_PG_BIN ?? '', 'initdb'), args, { ...user, cwd: '/' })
}

/** The one way in is with TLS and a password. @param {string} data */
function requireTls(data) {
  const lines = ['127.0.0.1/32', '::1/128'].map((address) => `hostssl all all ${address} scram-sha-256\n`)
  // In place: it stays the server's own file.
  writeFileSync(join(data, 'pg_hba.conf'), lines.join(''))
}

/** @param {string} dir @param {{ data: string, port: number, user: object, log: string,
 *   pair: import('./certificates.mjs').Pair | null }} options */
function launchPostgres(dir, { data, port, user, log, pair }) {
  const settings = {
    listen_addresses: '127.0.0.1',
    port: String(port),
    // No socket: its path may be too long, and TCP with a password is the one way in.
    unix_socket_directories: '',
    max_connections: '200',
    fsync: 'on',
    synchronous_commit: 'on',
    full_page_writes: 'on',
    timezone: 'UTC',
    ...(pair ? { ssl: 'on', ssl_cert_file: pair.cert, ssl_key_file: pair.key } : {}),
  }
  const args = ['-D', data, ...Object.entries(settings).flatMap(([key, value]) => ['-c', `${key}=${value}`])]
  const command = join(tools().SANDTRAIL_PG_BIN ?? '', 'postgres')
  // SIGINT is the fast shutdown: SIGTERM would wait for every client.
  return launch(dir, { name: 'postgres', command, args, ...user, log, stopSignal: 'SIGINT' })
}

/** @param {string} url @param {import('./processes.mjs').ProcessRecord} record */
async function answers(url, record) {
  let ready = false
  await until(async () => {
    ready = await canQuery(url)
    return ready || !isAlive(record)
  }, 60_000)
  return ready
}

/** @param {string} url */
async function canQuery(url) {
  try {
    await query(url, 'select 1')
    return true
  } catch {
    return false
  }
}

/** One statement on a connection of its own. @param {string} url @param {string} statement @param {unknown[]} [values] */
export async function query(url, statement, values) {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 })
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query(statement, values)).rows
  } finally {
    await client.end()
  }
}

/** The same server and credentials, another database. @param {string} url @param {string} name */
export function withDatabase(url, name) {
  const other = new URL(url)
  other.pathname = `/${name}`
  return other.href
}
