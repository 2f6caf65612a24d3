/** A real nats-server for a test: on a free port of loopback, with a store of its own that goes with it. */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ConnectOptions, connect } from './connection.js'
import type { Messaging } from './messaging.js'
import { type NatsConfig, renderNatsConfig } from './nats-config.js'

export interface TestNats {
  url: string
  port: number
  storeDir: string
  /** Connects as a user of the configuration; default: the platform's first. */
  connect(options?: Partial<ConnectOptions>): Promise<Messaging>
  /** Ends the process; `SIGKILL` as a crash would. */
  stop(signal?: 'SIGTERM' | 'SIGKILL'): Promise<void>
  /** Starts it again on the same port; with `wipe` its store is empty, as after the loss of a disk. */
  start(options?: { wipe?: boolean }): Promise<void>
  /** Reads a changed configuration, by SIGHUP; see docs/messaging.md for adding a tenant or a worker. */
  reload(config: Partial<NatsConfig>): Promise<void>
  /** Ends the process and removes every file. */
  close(): Promise<void>
}

const READY_MS = 10_000
const PLATFORM_USER = { user: 'platform', password: 'platform-password-for-tests' }

/** Starts a server with the configuration that production has, changed by `config`. */
export async function startNats(config: Partial<NatsConfig> = {}): Promise<TestNats> {
  const port = config.port ?? (await freePort())
  const dir = await mkdtemp(join(tmpdir(), 'sandtrail-nats-'))
  const configFile = join(dir, 'nats.conf')
  const storeDir = join(dir, 'store')
  const base = { host: '127.0.0.1', port, storeDir, tenants: [], platformUsers: [PLATFORM_USER], workers: [] }
  let settings: NatsConfig = { ...base, ...config, port }
  let server: ChildProcess | null = null

  const start = async ({ wipe = false } = {}) => {
    if (wipe) await rm(storeDir, { recursive: true, force: true })
    await writeFile(configFile, renderNatsConfig(settings), { mode: 0o600 })
    // A test run that is killed takes its server with it.
    const args = ['--pdeathsig', 'KILL', '--', findNatsServer(), '-c', configFile]
    server = spawn('setpriv', args, { stdio: ['ignore', 'ignore', 'pipe'] })
    await ready(server)
  }
  const stop = async (signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM') => {
    if (!server || server.exitCode !== null || server.signalCode !== null) return
    const exited = once(server, 'exit')
    server.kill(signal)
    await exited
  }
  const open: Messaging[] = []
  await start()
  return {
    url: `nats://127.0.0.1:${port}`,
    port,
    storeDir,
    async connect(options = {}) {
      const messaging = await connect({
        servers: `nats://127.0.0.1:${port}`,
        name: 'test',
        credentials: settings.platformUsers[0]!,
        connectWithinMs: READY_MS,
        ...options,
      })
      open.push(messaging)
      return messaging
    },
    stop,
    start,
    async reload(changes) {
      settings = { ...settings, ...changes }
      await writeFile(configFile, renderNatsConfig(settings), { mode: 0o600 })
      // Twice: the first reload makes a new tenant's account but not its imports (seen in 2.15.2).
      for (let time = 1; time <= 2; time++) {
        const reloaded = logged(server!, 'Reloaded server configuration')
        server!.kill('SIGHUP')
        await reloaded
      }
    },
    async close() {
      await Promise.all(open.map((messaging) => messaging.connection.close()))
      await stop()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

/** Resolves when `condition` holds, asking every 10 ms. @throws Error after `ms`. */
export async function eventually(condition: () => boolean | Promise<boolean>, ms = 10_000): Promise<void> {
  const giveUpAt = performance.now() + ms
  while (!(await condition())) {
    if (performance.now() > giveUpAt) throw new Error(`did not come true within ${ms} ms: ${condition}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** The server that set-up has put into the cache, in the pinned version. */
export function findNatsServer(): string {
  const named = process.env.NATS_SERVER_BIN
  if (named) return named
  const version = /^NATS_VERSION=(\S+)/m.exec(readFileSync('scripts/setup/versions.sh', 'utf8'))?.[1]
  const caches = [process.env.SANDTRAIL_CACHE, '/var/cache/sandtrail', join(homedir(), '.cache/sandtrail')]
  for (const cache of caches) {
    const path = cache ? join(cache, `nats-server-${version}`, 'nats-server') : ''
    if (path && existsSync(path)) return path
  }
  throw new Error(`nats-server ${version} is not in the cache: run scripts/setup.sh, or set NATS_SERVER_BIN`)
}

/** A port of loopback that nobody had a moment ago. */
export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const address = probe.address()
  probe.close()
  await once(probe, 'close')
  if (!address || typeof address === 'string') throw new Error('no port')
  return address.port
}

async function ready(server: ChildProcess): Promise<void> {
  await logged(server, 'Server is ready')
}

/** Resolves when the server has logged `text`; rejects with what it said when it ends or takes too long. */
async function logged(server: ChildProcess, text: string): Promise<void> {
  let said = ''
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const onData = (chunk: Buffer) => {
    said += chunk.toString()
    if (said.includes(text)) resolve()
  }
  const onExit = () => reject(new Error(`nats-server ended:\n${said}`))
  const timer = setTimeout(() => reject(new Error(`nats-server did not say "${text}":\n${said}`)), READY_MS)
  server.stderr!.on('data', onData)
  server.once('exit', onExit)
  try {
    await promise
  } finally {
    clearTimeout(timer)
    server.stderr!.off('data', onData)
    server.off('exit', onExit)
    // Read on, or the pipe fills up and the server stands still.
    server.stderr!.resume()
  }
}
