/** How the CLI ends when something went wrong: what, why, what to do on stderr, and the exit code of the error's code. */

import { CommanderError } from 'commander'
import { CODES, type ErrorBody, Rejected, SandtrailError, toErrorBody } from '#libs/domain'

/** Ends the CLI with an exit code of its own; everything to be said was said. */
export class Exit extends Error {
  constructor(readonly code: number) {
    super(`exit ${code}`)
  }
}

/** A mistake in the command line. */
export function usage(message: string, hint?: string): Rejected {
  return new Rejected('INVALID_ARGUMENT', message, hint === undefined ? {} : { hint })
}

/** `-o json` was asked for: errors are JSON too. */
let json = false
export function reportErrorsAsJson(): void {
  json = true
}

/** Never returns. */
export function fail(error: unknown): never {
  if (error instanceof Exit) process.exit(error.code)
  if (error instanceof CommanderError) {
    // Commander has written its message; help and version are no errors.
    process.exit(error.exitCode === 0 ? 0 : 2)
  }
  const body = bodyOf(error)
  process.stderr.write(json ? `${JSON.stringify({ error: body })}\n` : explain(body))
  if (process.env.SANDTRAIL_DEBUG && error instanceof Error) process.stderr.write(`${error.stack}\n`)
  process.exit(CODES[body.code].exit)
}

/** What, why, what to do: a line each. */
export function explain({ code, message, hint }: ErrorBody): string {
  const lines = [`sandtrail: ${message}`, `  code: ${code}`]
  if (hint !== null) lines.push(`  to do: ${hint}`)
  return `${lines.join('\n')}\n`
}

function bodyOf(error: unknown): ErrorBody {
  if (error instanceof Rejected || error instanceof SandtrailError) return toErrorBody(error)
  const { code, message } = error as NodeJS.ErrnoException
  if (code === 'ENOENT' || code === 'EACCES' || code === 'EISDIR' || code === 'ENOTDIR') {
    return { code: 'INVALID_ARGUMENT', message, hint: null, retryable: false }
  }
  const hint = 'this is a fault of the client: set SANDTRAIL_DEBUG=1 to see where'
  return { code: 'INTERNAL', message: message ?? 'an unknown error', hint, retryable: false }
}
