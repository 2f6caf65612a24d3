/** main.mjs up | down | status | tenants | demo | dev | soak | destroy | nats-config: what the Makefile calls. */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { openDatabase } from './database.mjs'
import { demo } from './demo.mjs'
import { dev } from './dev.mjs'
import { ensureKeys } from './keys.mjs'
import { findProcess, isAlive } from './processes.mjs'
import { soak } from './soak.mjs'
import { lastingDir } from './state.mjs'
import { destroy, destroyOwnedOnSignals, wasInterrupted } from './sweep.mjs'
import { describeProcesses, startSystem, stopSystem, syncTenants, writeUserFiles } from './system.mjs'
import { natsAccounts, rememberedTenants } from './tenants.mjs'
import { HOME } from './tools.mjs'

const say = (/** @type {string} */ line) => console.error(`sandtrail: ${line}`)
const userFile = (/** @type {string} */ name) => join(HOME, name)

/** @type {Record<string, (...args: string[]) => Promise<void>>} */
const commands = {
  async up() {
    await up()
  },

  async dev() {
    await dev(await up(), say)
    await commands.down?.()
  },

  async soak(seconds = '600') {
    destroyOwnedOnSignals()
    await soak(Number(seconds), say)
  },

  async demo() {
    destroyOwnedOnSignals()
    await demo()
  },

  async down() {
    await stopSystem(lastingDir())
    for (const name of ['env', 'services.json']) rmSync(userFile(name), { force: true })
    say('down; what it knows stays, for the next up')
  },

  async status() {
    const processes = describeProcesses(lastingDir())
    for (const { name, pid, log } of processes)
      console.log(`${name.padEnd(16)} ${String(pid).padEnd(8)} ${log}`)
    if (processes.length === 0) say("not running; 'make up' starts it")
  },

  /** Brings the broker's accounts to the table of tenants; a named tenant gets a new password. */
  async tenants(rotate = '') {
    const dir = lastingDir()
    if (!isAlive(findProcess(dir, 'postgres')) && process.env.SANDTRAIL_PG_URL === undefined) {
      say("not running; 'make up' does it too")
      return
    }
    const keys = await ensureKeys(dir, 1)
    const logs = userFile('logs')
    const login = { service: keys.service, auditor: keys.auditor, certificates: keys.certificates }
    const { serviceUrl } = await openDatabase(dir, { log: join(logs, 'postgres.log'), ...login })
    const options = { databaseUrl: serviceUrl, log: join(logs, 'nats.log') }
    const logins = await syncTenants(dir, keys, { ...options, ...(rotate ? { rotate } : {}) })
    for (const [tenant, file] of Object.entries(logins)) console.log(`${tenant.padEnd(32)} ${file}`)
    if (process.env.SANDTRAIL_NATS_URL === undefined) return
    say('give your broker what `main.mjs nats-config` prints, and reload it twice, a second apart')
  },

  /** Removes the lasting system with all its data. */
  async destroy() {
    const dir = lastingDir()
    await stopSystem(dir)
    await destroy(dir)
    say(`removed ${dir}`)
  },

  /** Prints what a broker of your own (SANDTRAIL_NATS_URL) has to be given. */
  async 'nats-config'(port = '4222', storeDir = '/var/lib/nats') {
    const { renderNatsConfig } = await import('#libs/messaging')
    const dir = lastingDir()
    const keys = await ensureKeys(dir, 1)
    console.log(
      renderNatsConfig({
        host: '0.0.0.0',
        port: Number(port),
        storeDir,
        ...natsAccounts(keys, rememberedTenants(dir)),
      }),
    )
  },
}

async function up() {
  const system = await startSystem({
    dir: lastingDir(),
    logs: userFile('logs'),
    tls: process.env.SANDTRAIL_TLS === '1',
    say: (line) => say(`starting ${line}`),
  })
  writeUserFiles(system)
  say(`up at ${system.env.SANDTRAIL_URL}; 'source .sandtrail/env', then bin/sandtrail`)
  return system
}

const [name = '', ...args] = process.argv.slice(2)
const command = commands[name]
if (command === undefined) {
  console.error(`usage: main.mjs ${Object.keys(commands).join(' | ')}`)
  process.exit(2)
}
try {
  await command(...args)
} catch (error) {
  if (wasInterrupted()) await new Promise(() => {}) // The signal's handler ends this process.
  console.error(`sandtrail: ${error instanceof Error ? error.message : error}`)
  process.exit(1)
}
