/** sandtrail-admin: set up, back up and restore an installation on this host (docs/install.md, docs/backup.md). */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { mountPool } from '../system/pool.mjs'
import { CLONE } from '../system/tools.mjs'
import { backup } from './backup.mjs'
import { bootstrap } from './bootstrap.mjs'
import { install } from './install.mjs'
import { layoutOf } from './layout.mjs'
import { adopt, restore } from './restore.mjs'

const USAGE = `usage: sandtrail-admin COMMAND [OPTIONS]

  tools                    bring runsc, nats-server, the base image and Debian's packages, in pinned versions
  install                  keys, schema, broker's file, environment files and systemd units; again after each upgrade
    --user NAME            of the services (sandtrail; made when missing)
    --units DIR            where systemd reads units (/etc/systemd/system)
    --http-port N          of the gateway (8480)
    --modal-port N         of the Modal SDKs (8481)
    --nats-port N          of the broker (4222)
    --tls NAMES            certificates for gateway and broker, for localhost and these names and addresses (comma)
  bootstrap                first token and base image, once the services run
  pool                     make and mount the worker's pool; sandtrail-pool.service runs it

  backup DIR               the log as of now: database and trail file, into a directory to be made
    --keys DIR             the tenants' keys into another, to be kept elsewhere and not as long
  restore DIR              into an empty database, then verify; the services must be stopped
    --keys DIR             the newest backup of the tenants' keys
  adopt                    a database that was set back by other means, such as point-in-time recovery

  --etc DIR                /etc/sandtrail
  --state DIR              /var/lib/sandtrail

DATABASE_ADMIN_URL in the environment, where a command needs the database: of its owner or a superuser.`

/** @typedef {Record<string, string | undefined>} Options */

/** @type {Record<string, (options: Options, ...args: string[]) => Promise<void>>} */
const commands = {
  async tools() {
    const child = spawn('bash', [join(CLONE, 'scripts', 'setup.sh')], { stdio: 'inherit' })
    const [code] = await once(child, 'exit')
    process.exitCode = code ?? 1
  },
  install: async (options) => install(layoutOf(options), adminUrl(), options),
  async backup(options, to) {
    if (to === undefined) throw new Error('backup DIR: name a directory to be made')
    await backup(layoutOf(options), adminUrl(), to, options.keys)
  },
  async restore(options, from) {
    if (from === undefined) throw new Error('restore DIR: name a directory that backup has made')
    await restore(layoutOf(options), adminUrl(), from, options.keys)
  },
  adopt: async (options) => adopt(layoutOf(options), adminUrl()),
  bootstrap: async (options) => bootstrap(layoutOf(options)),
  async pool(options) {
    console.log(await mountPool(layoutOf(options).state, '1'))
  },
}

function adminUrl() {
  const url = process.env.DATABASE_ADMIN_URL
  if (!url)
    throw new Error('DATABASE_ADMIN_URL is not set: the URL of the database, as its owner or a superuser')
  return url
}

const option = { type: /** @type {const} */ ('string') }
try {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
      etc: option,
      state: option,
      user: option,
      units: option,
      keys: option,
      'http-port': option,
      'modal-port': option,
      'nats-port': option,
      tls: option,
      help: { type: 'boolean', short: 'h' },
    },
  })
  const { help, ...options } = values
  const [name = '', ...args] = positionals
  const command = commands[name]
  if (help || command === undefined) {
    console.log(USAGE)
    process.exit(help ? 0 : 2)
  }
  await command(options, ...args)
} catch (error) {
  console.error(`sandtrail-admin: ${error instanceof Error ? error.message : error}`)
  process.exit(1)
}
