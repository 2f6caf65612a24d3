/**
 * Two Postgres servers in a guest, on one disk that loses what was not flushed: `main` for a system, and `control`, whose
 * clients commit without waiting for the disk. Every database that is made in them has the schema.
 */

import { execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { appendFileSync, chmodSync, chownSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { migrate } from '#migrations'
import { tools } from '../../scripts/system/tools.mjs'
import type { Random } from '../faults/random.js'
import { fetchGuest, Guest, makeInitrd } from '../guest/guest.js'
import { makeDisk, makeRoot, postgresContent } from '../guest/root.js'
import { type Cut, VolatileDisk } from './volatile-disk.js'

export type Server = 'main' | 'control'
const PORTS: Readonly<Record<Server, number>> = { main: 5433, control: 5434 }
const DATA = '/data'
/** 7 s on two idle cores; a busy machine has several of us. */
const BOOT_MS_MAX = 240_000

export class GuestPostgres {
  private guest: Guest | null = null

  private constructor(
    private readonly home: string,
    private readonly guestDir: string,
    private readonly password: string,
    private readonly forwards: Readonly<Record<Server, number>>,
    private readonly disk: VolatileDisk,
  ) {}

  /** Makes the guest's disks in `home`. Clusters are made here, where it takes a second, and not in the guest. */
  static async make(home: string, random: Random): Promise<GuestPostgres> {
    const guestDir = fetchGuest()
    const password = randomBytes(24).toString('base64url')
    makeInitrd(join(home, 'initrd'), guestDir)
    await makeClusters(home, password)
    const { programs, trees } = postgresContent()
    makeRoot(join(home, 'root.img'), guestDir, { programs, trees, directories: [DATA], main: mainScript() })
    const disk = new VolatileDisk(join(home, 'data.img'), random)
    await disk.listen(join(home, 'disk'))
    const forwards = { main: await freePort(), control: await freePort() }
    return new GuestPostgres(home, guestDir, password, forwards, disk)
  }

  /** Of the superuser. */
  url(server: Server, database: string): string {
    return `postgres://postgres:${this.password}@127.0.0.1:${this.forwards[server]}/${database}`
  }

  /** Resolves when both servers answer; how many milliseconds that took. */
  async boot(): Promise<number> {
    const begun = performance.now()
    this.guest = new Guest({
      guestDir: this.guestDir,
      initrd: join(this.home, 'initrd'),
      root: join(this.home, 'root.img'),
      data: `nbd+unix:///?socket=${join(this.home, 'disk')}`,
      memoryMiB: 1024,
      forwards: new Map([
        [PORTS.main, this.forwards.main],
        [PORTS.control, this.forwards.control],
      ]),
      variables: { DATA },
    })
    await this.guest.said('GUEST: up', BOOT_MS_MAX)
    for (const server of ['main', 'control'] as const) await this.untilAnswers(server, begun + BOOT_MS_MAX)
    return performance.now() - begun
  }

  /** The power is gone: the guest's memory, and what its disk had not flushed. */
  async cut(): Promise<Cut & { writes: number; flushes: number }> {
    await this.guest!.kill()
    const { writes, flushes } = this.disk
    return { ...this.disk.cut(), writes, flushes }
  }

  async end(): Promise<void> {
    await this.guest?.kill()
    await this.disk.close()
  }

  private async untilAnswers(server: Server, giveUpAt: number): Promise<void> {
    for (;;) {
      try {
        await query(this.url(server, 'postgres'), 'select 1')
        return
      } catch (cause) {
        if (performance.now() > giveUpAt) {
          throw new Error(
            `${server} does not answer; the guest's console:\n${this.guest?.console.slice(-3_000)}`,
            {
              cause,
            },
          )
        }
        await delay(200)
      }
    }
  }
}

/** One statement, on a connection of its own. */
export async function query(url: string, statement: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 })
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query(statement)).rows
  } finally {
    await client.end().catch(() => {})
  }
}

/** `main`, and `control` as a copy of it; whatever database is made in them has the schema already. */
async function makeClusters(home: string, password: string): Promise<void> {
  const id = (flag: string) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }))
  const owner = { uid: id('-u'), gid: id('-g'), cwd: '/' }
  const data = join(home, 'data')
  const main = join(data, 'main')
  const passwordFile = join(data, 'password')
  mkdirSync(data)
  writeFileSync(passwordFile, password, { mode: 0o600 })
  // Up to here the way is ours alone, and Postgres runs as somebody else.
  chmodSync(home, 0o711)
  for (const path of [data, passwordFile]) chownSync(path, owner.uid, owner.gid)
  // Not scram: its thousands of hashes would take the guest a second for each connection. Nobody but us can listen.
  const args = ['-D', main, '-U', 'postgres', `--pwfile=${passwordFile}`, '-A', 'md5', '--no-sync']
  args.push('--data-checksums', '-E', 'UTF8', '--locale=C.UTF-8')
  execFileSync(join(tools().SANDTRAIL_PG_BIN!, 'initdb'), args, { ...owner, stdio: 'pipe' })
  rmSync(passwordFile)
  await migrateTemplate(main, password, owner)
  // What the guest's own network translates this host to.
  appendFileSync(join(main, 'pg_hba.conf'), 'host all all 10.0.2.2/32 md5\n')
  execFileSync('cp', ['-a', main, join(data, 'control')])
  // 10 s instead of 0.2: what this one loses is to be seen with few commits too.
  appendFileSync(join(data, 'control', 'postgresql.conf'), `wal_writer_delay = '10s'\n`)
  makeDisk(join(home, 'data.img'), data, '4G')
  rmSync(data, { recursive: true })
}

async function migrateTemplate(cluster: string, password: string, owner: object): Promise<void> {
  const port = await freePort()
  const settings = [
    '-h',
    '127.0.0.1',
    '-p',
    String(port),
    '-c',
    'unix_socket_directories=',
    '-c',
    'fsync=off',
  ]
  const server = spawn(join(tools().SANDTRAIL_PG_BIN!, 'postgres'), ['-D', cluster, ...settings], {
    ...owner,
    stdio: 'ignore',
  })
  const ended = once(server, 'exit')
  try {
    const url = `postgres://postgres:${password}@127.0.0.1:${port}/template1`
    while (server.exitCode === null && !(await query(url, 'select 1').catch(() => null))) await delay(50)
    await migrate(url)
  } finally {
    server.kill('SIGINT')
    await ended
  }
}

/** The guest goes on for as long as a server does. */
function mainScript(): string {
  const postgres = join(tools().SANDTRAIL_PG_BIN!, 'postgres')
  const settings = 'listen_addresses=10.0.2.15 max_connections=200 unix_socket_directories= timezone=UTC'
  const flags = settings
    .split(' ')
    .map((setting) => `-c ${setting}`)
    .join(' ')
  const start = Object.entries(PORTS).map(
    ([server, port]) =>
      `su -s /bin/sh postgres -c '${postgres} -D ${DATA}/${server} -c port=${port} ${flags}' &`,
  )
  return [...start, 'echo GUEST: up', 'wait'].join('\n')
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
