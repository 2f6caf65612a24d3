/** A nats-server of our own, with JetStream, on 127.0.0.1. */
import { chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { installPair } from './certificates.mjs'
import { forgetPort, isFree, portFor } from './ports.mjs'
import { findProcess, isAlive, launch, signal } from './processes.mjs'
import { tools, userFor } from './tools.mjs'
import { until } from './until.mjs'

/**
 * Starts the broker of this system unless it runs, and waits until it listens. A changed configuration is loaded by
 * the one that runs.
 *
 * @param {string} dir state directory of the system
 * @param {{ log: string, certificate?: import('./certificates.mjs').Pair | undefined, renderConfig: (at: { host: string,
 *   port: number, storeDir: string, tls?: { certFile: string, keyFile: string } }) => string }} options
 *   `certificate`: with it there is no talk without TLS
 * @returns {Promise<string>} its URL, without credentials
 */
export async function startNats(dir, { log, certificate, renderConfig }) {
  const home = join(dir, 'nats')
  const storeDir = join(home, 'store')
  const configFile = join(home, 'nats.conf')
  const user = userFor('nobody')
  for (const path of [home, storeDir]) {
    mkdirSync(path, { recursive: true, mode: 0o700 })
    if (user.uid !== undefined) chownSync(path, user.uid, user.gid ?? user.uid)
  }
  const pair = certificate && installPair(certificate, home, user)
  const tls = pair && { tls: { certFile: pair.cert, keyFile: pair.key } }

  for (let attempt = 1; ; attempt++) {
    const port = await portFor(dir, 'nats')
    const config = renderConfig({ host: '127.0.0.1', port, storeDir, ...tls })
    const changed = writeConfig(configFile, config, user) || pair?.changed
    let record = findProcess(dir, 'nats')
    if (record === null || !isAlive(record)) {
      const command = tools().SANDTRAIL_NATS_SERVER ?? ''
      record = launch(dir, { name: 'nats', command, args: ['--config', configFile], ...user, log })
    } else if (changed) {
      await reload(record, log)
    }
    if (await listens(port, record)) return `${pair ? 'tls' : 'nats'}://127.0.0.1:${port}`
    if (attempt === 3) throw new Error(`nats-server did not start: see ${log}`)
    if (!(await isFree(port))) forgetPort(dir, 'nats')
  }
}

/**
 * Twice: the first reload makes a new tenant's account, but its imports only the second (nats-server 2.15.2,
 * `configureAccounts`: "only if not reloading").
 * @param {import('./processes.mjs').ProcessRecord} record @param {string} log
 */
async function reload(record, log) {
  const said = () => (existsSync(log) ? readFileSync(log, 'utf8') : '')
  for (let time = 1; time <= 2; time++) {
    const before = said().length
    signal(record, 'SIGHUP')
    let answer = ''
    await until(() => {
      answer =
        /Reloaded server configuration|Failed to reload server configuration[^\n]*/.exec(
          said().slice(before),
        )?.[0] ?? ''
      return answer !== '' || !isAlive(record)
    }, 10_000)
    if (!answer.startsWith('Reloaded'))
      throw new Error(`nats-server did not take its configuration: see ${log}`)
  }
}

/** True when the file had another content. It holds passwords. @returns {boolean} */
function writeConfig(
  /** @type {string} */ path,
  /** @type {string} */ text,
  /** @type {{uid?: number, gid?: number}} */ user,
) {
  try {
    if (readFileSync(path, 'utf8') === text) return false
  } catch {
    // The first start.
  }
  writeFileSync(path, text, { mode: 0o600 })
  if (user.uid !== undefined) chownSync(path, user.uid, user.gid ?? user.uid)
  return true
}

/** @param {number} port @param {import('./processes.mjs').ProcessRecord} record */
async function listens(port, record) {
  let open = false
  await until(async () => {
    open = await accepts(port)
    return open || !isAlive(record)
  }, 30_000)
  return open && isAlive(record)
}

/** @param {number} port @returns {Promise<boolean>} */
function accepts(port) {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port })
    socket.once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy() && resolve(true))
  })
}

/** What a test that brings no accounts gets. @param {{ host: string, port: number, storeDir: string }} at */
export function plainNatsConfig({ host, port, storeDir }) {
  return `listen: "${host}:${port}"\nmax_payload: 1MB\njetstream { store_dir: "${storeDir}" }\n`
}
