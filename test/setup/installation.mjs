/**
 * An installation as a user has it: the package, packed and installed under a prefix of its own, and its units, whose
 * processes are started as systemd would start them: same command, environment, user and privileges. Only the ports,
 * the places and the worker's instance are those of a private system, so that it is cleaned up like one.
 */
import { appendFileSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { readEnvFile } from '../../scripts/deploy/env-file.mjs'
import { portFor } from '../../scripts/system/ports.mjs'
import { query, startPostgres, withDatabase } from '../../scripts/system/postgres.mjs'
import { launch, listProcesses, stopProcess } from '../../scripts/system/processes.mjs'
import { createPrivateDir, systemId } from '../../scripts/system/state.mjs'
import { destroy } from '../../scripts/system/sweep.mjs'
import { CLONE, sh, tools, userFor } from '../../scripts/system/tools.mjs'
import { until } from '../../scripts/system/until.mjs'

const USER = 'nobody'
const SERVICES = ['scheduler', 'snapshotter', 'volume-syncer', 'gateway', 'worker']

export class Installation {
  /** @param {string} dir */
  constructor(dir) {
    this.dir = dir
    this.package = join(dir, 'prefix', 'lib', 'node_modules', 'sandtrail')
    this.home = join(dir, 'home')
    this.units = join(dir, 'units')
    this.etc = join(dir, 'etc')
  }

  /** Packs, installs, and does what docs/install.md says up to the start. */
  static async make() {
    const installation = new Installation(createPrivateDir())
    try {
      await installation.#make()
      return installation
    } catch (error) {
      await installation.remove().catch(() => {})
      throw error
    }
  }

  async #make() {
    const { dir } = this
    mkdirSync(this.home)
    const [pack, server] = await Promise.all([
      sh(process.execPath, [join(CLONE, 'scripts', 'pack.mjs'), dir]),
      startPostgres(dir, { log: join(dir, 'postgres.log') }),
    ])
    await query(server, 'create database sandtrail')
    this.adminUrl = withDatabase(server, 'sandtrail')
    const from = ['--prefer-offline', '--no-audit', '--no-fund', pack.trim()]
    await sh('npm', ['install', '--global', '--prefix', join(dir, 'prefix'), ...from])
    await this.run('sandtrail-admin', 'tools')
    await this.install()
    await this.#makePrivate()
  }

  /** `sandtrail-admin install`, the first time and again. */
  async install() {
    const { dir } = this
    const [http, nats] = [await portFor(dir, 'gateway'), await portFor(dir, 'nats')]
    const ports = ['--http-port', String(http), '--nats-port', String(nats)]
    await this.#admin('install', ...ports, '--user', USER, '--units', this.units)
  }

  /** @param {string[]} args */
  #admin(...args) {
    return this.run('sandtrail-admin', ...args, '--etc', this.etc, '--state', this.dir)
  }

  /** Changes of an administrator: ports that are free here, and a name by which leftovers are found. */
  async #makePrivate() {
    for (const service of SERVICES) {
      const port = await portFor(this.dir, `${service}-metrics`)
      appendFileSync(join(this.etc, `${service}.env`), `SANDTRAIL_METRICS_PORT=${port}\n`)
    }
    const instance = `SANDTRAIL_INSTANCE=${systemId(this.dir)}01\n`
    appendFileSync(join(this.etc, 'worker.env'), instance)
  }

  /** A program of the package, as its administrator runs it. @param {string} name @param {string[]} args */
  run(name, ...args) {
    const { SANDTRAIL_CACHE = '' } = tools()
    const PATH = `${join(this.dir, 'prefix', 'bin')}:${process.env.PATH}`
    const env = { PATH, HOME: this.home, SANDTRAIL_CACHE, DATABASE_ADMIN_URL: this.adminUrl ?? '', SANDTRAIL_POOL_SIZE: '8G' }
    return sh(join(this.dir, 'prefix', 'bin', name), args, { env, cwd: '/' })
  }

  /** What `systemctl start sandtrail.target` does, then the first token and the base image, and a login with it. */
  async start() {
    this.#launch('nats')
    await sh(...this.#commandOf('pool'))
    for (const service of SERVICES) this.#launch(service)
    await Promise.all(SERVICES.map((service) => this.#ready(service)))
    const login = await this.#admin('bootstrap')
    await sh('bash', ['-c', `${join(this.dir, 'prefix', 'bin')}/${login.trim()}`], { env: { PATH: process.env.PATH ?? '', HOME: this.home } })
  }

  async stop() {
    const names = listProcesses(this.dir).map(({ name }) => name)
    // At once, as systemd does it.
    const stopped = names.filter((each) => each !== 'postgres').map((name) => stopProcess(this.dir, name))
    await Promise.all(stopped)
  }

  processes() {
    return listProcesses(this.dir)
  }

  remove() {
    return destroy(this.dir)
  }

  /** @param {string} name */
  #launch(name) {
    const unit = this.#unit(name)
    const file = unit.EnvironmentFile?.[0]
    const [command, args] = this.#commandOf(name)
    // What every unit has, and what those have that are not root's.
    const confined = ['--no-new-privs']
    if (unit.User) {
      const { uid, gid } = userFor(unit.User[0] ?? '')
      confined.push('--reuid', `${uid}`, '--regid', `${gid}`, '--clear-groups', '--inh-caps=-all', '--bounding-set=-all')
    }
    const env = file ? readEnvFile(file) : {}
    launch(this.dir, { name, command: 'setpriv', args: [...confined, command, ...args], env, log: this.log(name) })
  }

  /** @param {string} name */
  log(name) {
    return join(this.dir, 'logs', `${name}.log`)
  }

  /** @param {string} name @returns {[string, string[]]} */
  #commandOf(name) {
    const [command = '', ...args] = this.#unit(name).ExecStart?.[0]?.split(' ') ?? []
    return [command, args]
  }

  /** @param {string} name @returns {Record<string, string[]>} */
  #unit(name) {
    /** @type {Record<string, string[]>} */
    const found = {}
    for (const line of readFileSync(join(this.units, `sandtrail-${name}.service`), 'utf8').split('\n')) {
      const [, key, value] = /^([A-Za-z]+)=(.*)$/.exec(line) ?? []
      if (key !== undefined && value !== undefined) found[key] = [...(found[key] ?? []), value]
    }
    return found
  }

  /** @param {string} service */
  async #ready(service) {
    const url = `http://127.0.0.1:${await portFor(this.dir, `${service}-metrics`)}/readyz`
    const isReady = () => fetch(url).then(({ ok }) => ok, () => false)
    if (await until(isReady, 60_000)) return
    throw new Error(`${service} did not get ready:\n${readFileSync(this.log(service), 'utf8').slice(-2_000)}`)
  }
}
