/** For tests only: a fresh, migrated database per test file, on the server of the run or on one of its own. */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import pg from 'pg'
import { migrate, migrations } from '#migrations'
import { type Database, openDatabase } from './database.js'

export interface TestDatabase {
  /** Of a superuser. */
  url: string
  pool: Database
  /** The same database with another login, for tests of grants. */
  urlFor(user: string, password: string): string
  /** Ends the pool and removes the database, and the server when it was started for this file. */
  drop(): Promise<void>
}

/** SANDTRAIL_TEST_PG_URL names a server (a superuser's URL); without it one is started under /tmp and removed again. */
export async function createTestDatabase(options: { max?: number } = {}): Promise<TestDatabase> {
  const given = process.env.SANDTRAIL_TEST_PG_URL
  const server = given ? { url: given, stop: async () => {} } : await startPostgres()
  const name = `test_${randomBytes(6).toString('hex')}`
  await cloneTemplate(server.url, name)
  const url = withDatabase(server.url, name)
  const pool = openDatabase({ url, max: options.max ?? 10, name: 'test' })
  return {
    url,
    pool,
    urlFor(user, password) {
      const other = new URL(url)
      other.username = user
      other.password = password
      return other.href
    },
    async drop() {
      if (!pool.ended) await pool.end()
      await withClient(server.url, (admin) => admin.query(`drop database ${name} with (force)`))
      await server.stop()
    },
  }
}

export interface TestPostgres {
  /** Of a superuser. */
  url: string
  /** Ends every process of the server at once, as a crash does. Its data stays. */
  crash(): Promise<void>
  /** Starts it again on its data; resolves when it has recovered. */
  restart(): Promise<void>
  stop(): Promise<void>
}

/** Starts a throw-away server as the user postgres (or oneself, when not root), on a free port of loopback. */
export async function startPostgres(): Promise<TestPostgres> {
  const bin = postgresBin()
  const owner = process.getuid?.() === 0 ? passwd('postgres') : null
  const dir = mkdtempSync('/tmp/sandtrail-pg-')
  if (owner) chownSync(dir, owner.uid, owner.gid)
  const data = join(dir, 'data')
  const port = await freePort()
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`
  const initdb = ['-D', data, '-U', 'postgres', '-A', 'trust', '--no-sync', '-E', 'UTF8', '--locale=C']
  execFileSync(join(bin, 'initdb'), initdb, { ...owner, stdio: 'ignore', cwd: dir })

  const settings = ['-h', '127.0.0.1', '-p', String(port), '-k', dir, '-c', 'max_connections=200']
  const start = async () => {
    const options = { ...owner, stdio: 'ignore' as const, cwd: dir }
    const child = spawn(join(bin, 'postgres'), ['-D', data, ...settings], options)
    await untilReady(url, child)
    return child
  }
  // A test that is killed takes its server along: postgres ends by itself once its data directory is gone.
  const cleanUp = () => rmSync(dir, { recursive: true, force: true })
  process.once('exit', cleanUp)
  let child = await start()
  const end = async (signal: 'SIGINT' | 'SIGQUIT') => {
    child.kill(signal)
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  }
  return {
    url,
    crash: () => end('SIGQUIT'),
    async restart() {
      child = await start()
    },
    async stop() {
      await end('SIGINT')
      process.off('exit', cleanUp)
      cleanUp()
    },
  }
}

async function cloneTemplate(serverUrl: string, name: string): Promise<void> {
  const template = `template_${schemaDigest()}`
  await withClient(serverUrl, async (admin) => {
    // One session makes the template, the others wait for it here.
    await admin.query('select pg_advisory_lock(5117240102)')
    const { rowCount } = await admin.query('select from pg_database where datname = $1', [template])
    if (rowCount === 0) {
      const half = `${template}_half`
      await admin.query(`drop database if exists ${half} with (force)`)
      await admin.query(`create database ${half}`)
      await migrate(withDatabase(serverUrl, half))
      await admin.query(`alter database ${half} rename to ${template}`)
    }
    await admin.query(`create database ${name} template ${template}`)
  })
}

function schemaDigest(): string {
  const sources = migrations.map((migration) => JSON.stringify(new migration()))
  return createHash('sha256').update(sources.join()).digest('hex').slice(0, 12)
}

function postgresBin(): string {
  const root = '/usr/lib/postgresql'
  const versions = existsSync(root) ? readdirSync(root) : []
  const newest = versions.sort((a, b) => Number(b) - Number(a))[0]
  if (newest === undefined) throw new Error(`no Postgres under ${root}: set SANDTRAIL_TEST_PG_URL`)
  return join(root, newest, 'bin')
}

function passwd(user: string): { uid: number; gid: number } {
  const id = (flag: string) => Number(execFileSync('id', [flag, user], { encoding: 'utf8' }))
  return { uid: id('-u'), gid: id('-g') }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

async function untilReady(url: string, child: ChildProcess): Promise<void> {
  const deadline = performance.now() + 20_000
  for (;;) {
    try {
      return await withClient(url, async () => {})
    } catch (error) {
      if (child.exitCode !== null || performance.now() > deadline) throw error
      await new Promise((resolve) => setTimeout(resolve, 25))
    }
  }
}

async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

function withDatabase(serverUrl: string, name: string): string {
  const url = new URL(serverUrl)
  url.pathname = `/${name}`
  return url.href
}
