/** An event store on a Postgres of its own, with fsync on, and pgbench of the same installation. */

import { execFile } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type Database, openDatabase, upsertWorker } from '#libs/event-store'
import { migrate } from '#migrations'
import { startPostgres } from '../libs/event-store/testing.js'
import { tools } from '../scripts/system/tools.mjs'
import { postgresOn } from './usage.js'

const run = promisify(execFile)

export interface Store {
  /** Of a superuser. */
  url: string
  db: Database
  /** For files; gone with the store. */
  dir: string
  /** User and system time of the server and of this process, in milliseconds. */
  cpuMs(): number
  /** Transactions a second, each one run of `script`. */
  pgbench(script: string, clients: number, seconds: number): Promise<number>
  close(): Promise<void>
}

export async function openStore(): Promise<Store> {
  const server = await startPostgres()
  const { url } = server
  const dir = mkdtempSync(join(tmpdir(), 'sandtrail-bench-'))
  chmodSync(dir, 0o755)
  await migrate(url)
  const db = openDatabase({ url, max: 32 })
  const capacity = { cpuMillis: 1e9, memoryBytes: 1e12, diskBytes: 1e12 }
  await upsertWorker(db, { workerId: 'wk-1', incarnation: 'a', capacity, poolFreeBytes: 1, info: {} })
  return {
    url,
    db,
    dir,
    cpuMs() {
      const { user, system } = process.cpuUsage()
      const server = postgresOn(new URL(url).port).reduce((sum, { cpuMs }) => sum + cpuMs, 0)
      return (user + system) / 1000 + server
    },
    async pgbench(script, clients, seconds) {
      const file = join(dir, 'script.sql')
      writeFileSync(file, script)
      const threads = Math.min(clients, 2)
      const args = ['-n', '-M', 'prepared', '-c', clients, '-j', threads, '-T', seconds, '-f', file, url]
      const { stdout } = await run(join(tools().SANDTRAIL_PG_BIN ?? '', 'pgbench'), args.map(String))
      const tps = /^tps = ([\d.]+)/m.exec(stdout)?.[1]
      if (tps === undefined) throw new Error(`pgbench said ${stdout}`)
      return Number(tps)
    },
    async close() {
      await db.end()
      await server.stop()
      rmSync(dir, { recursive: true })
    },
  }
}
