/** pg_dump and pg_restore; the password goes by the environment, never as an argument. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { tools } from '../system/tools.mjs'

const run = promisify(execFile)

/** @param {'pg_dump' | 'pg_restore'} program @param {string} url @param {string[]} args */
export async function postgresTool(program, url, args) {
  const { hostname, port, username, password, pathname, searchParams } = new URL(url)
  const env = {
    PATH: process.env.PATH ?? '',
    LC_ALL: 'C.UTF-8',
    PGHOST: decodeURIComponent(hostname),
    PGPORT: port || '5432',
    PGUSER: decodeURIComponent(username),
    PGPASSWORD: decodeURIComponent(password),
    PGDATABASE: decodeURIComponent(pathname.slice(1)),
    ...(searchParams.has('sslmode') ? { PGSSLMODE: searchParams.get('sslmode') ?? '' } : {}),
    ...(searchParams.has('sslrootcert') ? { PGSSLROOTCERT: searchParams.get('sslrootcert') ?? '' } : {}),
  }
  try {
    await run(pathOf(program), args, { env, maxBuffer: 16 * 1024 * 1024 })
  } catch (error) {
    const { stderr = '', message = '' } = /** @type {{ stderr?: string, message?: string }} */ (error)
    throw new Error(`${program} failed: ${stderr.trim().slice(0, 2_000) || message}`)
  }
}

/** Set-up's, else that of PATH: it must be as new as the server. @param {string} program */
function pathOf(program) {
  try {
    const own = join(tools().SANDTRAIL_PG_BIN ?? '', program)
    if (existsSync(own)) return own
  } catch {
    // Not set up: PATH will do.
  }
  return program
}
