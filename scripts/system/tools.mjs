/** What set-up found or built, from .tools/env; and the users that servers run as. */
import { execFile } from 'node:child_process'
import { readFileSync, realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

export const CLONE = fileURLToPath(new URL('../../', import.meta.url)).replace(/\/$/, '')

/** Where a lasting system puts what people look at. Only a test of `make up` puts it elsewhere. */
export const HOME = process.env._SANDTRAIL_HOME ?? `${CLONE}/.sandtrail`

const run = promisify(execFile)

/** @returns {Record<string, string>} */
export function tools() {
  let text
  try {
    text = readFileSync(`${CLONE}/.tools/env`, 'utf8')
  } catch {
    throw new Error("this clone is not set up: run 'make setup'")
  }
  const lines = text.split('\n').filter((line) => line.includes('='))
  return Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  )
}

/** Whether the module is the program that was started, not an import of it. @param {string} url of the module */
export const isMain = (url) => fileURLToPath(url) === realpathSync(process.argv[1] ?? '')

export const isRoot = process.getuid?.() === 0

/**
 * Who a server runs as: itself when we are not root, else the first of `users` that exists.
 * @param {string[]} users @returns {{ uid?: number, gid?: number }}
 */
export function userFor(...users) {
  if (!isRoot) return {}
  const passwd = readFileSync('/etc/passwd', 'utf8').split('\n')
  for (const user of users) {
    const [, , uid, gid] = passwd.find((line) => line.startsWith(`${user}:`))?.split(':') ?? []
    if (uid !== undefined) return { uid: Number(uid), gid: Number(gid) }
  }
  throw new Error(`none of these users exists: ${users.join(', ')}`)
}

/**
 * Runs a program and gives its output; its errors carry what it said on stderr.
 * @param {string} command @param {string[]} args @param {import('node:child_process').ExecFileOptions} [options]
 */
export async function sh(command, args, options = {}) {
  const { stdout } = await run(command, args, { maxBuffer: 64 * 1024 * 1024, ...options, encoding: 'utf8' })
  return stdout
}
