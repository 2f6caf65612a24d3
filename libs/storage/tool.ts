/** Runs the kept tools (btrfs, cp, find, tar): argv arrays only, a time limit on each, failures as coded errors. */

import { spawn } from 'node:child_process'
import { type ErrorCode, SandtrailError } from '#libs/domain'

/** The same messages in every locale: some are matched below. */
export const TOOL_ENV = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' }

/** No single call on a pool takes so long unless the disk is dying. */
export const TOOL_MS_MAX = 600_000
const STDERR_BYTES_MAX = 4096

export interface ToolOptions {
  cwd?: string
  timeoutMs?: number
  /** Written to stdin; without it stdin is empty. */
  input?: string | Buffer
}

/**
 * Runs `command` and resolves with its stdout.
 *
 * @throws SandtrailError NO_SPACE or QUOTA_EXCEEDED when the filesystem says so, DEADLINE_EXCEEDED, else INTERNAL.
 */
export function runTool(
  command: string,
  args: readonly string[],
  options: ToolOptions = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: options.cwd, env: TOOL_ENV, stdio: 'pipe' })
    let stdout = ''
    let stderr = ''
    let late = false
    const timer = setTimeout(() => {
      late = true
      child.kill('SIGKILL')
    }, options.timeoutMs ?? TOOL_MS_MAX)
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      if (stderr.length < STDERR_BYTES_MAX) stderr += text
    })
    // A tool that ends without reading all of its input is judged by its exit code.
    child.stdin.on('error', () => {})
    child.stdin.end(options.input ?? '')
    child.on('error', (cause) => {
      clearTimeout(timer)
      reject(new SandtrailError('INTERNAL', `cannot run ${command}`, { hint: 'is it installed?', cause }))
    })
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      if (code === 0) resolve(stdout)
      else if (late)
        reject(new SandtrailError('DEADLINE_EXCEEDED', `${command} ${args[0] ?? ''} took too long`))
      else reject(toolFailed(command, args[0] ?? '', stderr, code ?? signal))
    })
  })
}

/** The error of a tool that failed; its own words are the cause, for the log only. */
export function toolFailed(
  command: string,
  verb: string,
  stderr: string,
  status: number | string | null,
): SandtrailError {
  const code = codeOf(stderr)
  const cause = new Error(`${command} ended with ${status}: ${stderr.slice(0, STDERR_BYTES_MAX).trim()}`)
  const hint = code === 'NO_SPACE' ? { hint: 'free space in the pool, or make it larger' } : {}
  return new SandtrailError(code, `${command} ${verb} failed`, { ...hint, cause })
}

function codeOf(stderr: string): ErrorCode {
  if (/No space left on device/i.test(stderr)) return 'NO_SPACE'
  // tar says the second when the quota ends a write in its middle.
  if (/Disk quota exceeded|Wrote only \d+ of/i.test(stderr)) return 'QUOTA_EXCEEDED'
  // A path that no system call can name: the content is at fault, trying again does not help.
  if (/File name too long/i.test(stderr)) return 'INVALID_ARGUMENT'
  return 'INTERNAL'
}
