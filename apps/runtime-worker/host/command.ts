/** Runs the kept tools (runsc, ip, nft ...): argv arrays, never a shell, always under a time limit. */

import { execFile } from 'node:child_process'

/** What a tool says is for the log: cut, because it may quote what a guest made up. */
const OUTPUT_MAX = 4096

export class CommandFailed extends Error {
  override readonly name = 'CommandFailed'
  constructor(
    readonly file: string,
    readonly args: readonly string[],
    /** Exit code, or null when it was killed: by its time limit, by the signal of the caller, or from outside. */
    readonly exitCode: number | null,
    readonly stderr: string,
    options?: ErrorOptions,
  ) {
    const how = exitCode === null ? 'was killed' : `exited with ${exitCode}`
    super(`${file} ${args[0] ?? ''} ${how}: ${stderr.trim().slice(0, OUTPUT_MAX)}`, options)
  }
}

export interface CommandOptions {
  /** Milliseconds; then SIGKILL. */
  timeoutMs: number
  signal?: AbortSignal
  input?: string
}

/**
 * Runs a tool to its end and resolves with its stdout (at most 16 MiB).
 *
 * @throws CommandFailed
 */
export function run(file: string, args: readonly string[], options: CommandOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      file,
      args,
      {
        timeout: options.timeoutMs,
        killSignal: 'SIGKILL',
        maxBuffer: 16 * 1024 ** 2,
        // The tools get no environment of the service: nothing to leak into what they start.
        env: { PATH: TOOL_PATH, LC_ALL: 'C' },
        ...(options.signal ? { signal: options.signal } : {}),
      },
      (error, stdout, stderr) => {
        if (error === null) return resolve(stdout)
        const exitCode = typeof error.code === 'number' ? error.code : null
        const said = stderr === '' && exitCode === null ? error.message : stderr
        reject(new CommandFailed(file, args, exitCode, said, { cause: error }))
      },
    )
    child.stdin?.on('error', () => {}) // A tool that ends before it has read its input says so by its exit code.
    child.stdin?.end(options.input ?? '')
  })
}

/** Debian keeps ip and nft in sbin, which a service's PATH may lack. */
export const TOOL_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
