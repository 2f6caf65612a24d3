/** Connects this process' streams and terminal with an exec's, until the exec ends. */

import { type Api, path, patiently } from '../api.js'
import { Exit } from '../failure.js'
import { note } from '../print.js'
import type { Exec, Sandbox } from '../types.js'
import { followOutput } from './follow-output.js'
import { pumpStdin } from './pump-stdin.js'
import { onInterrupts } from './signals.js'
import { enterRawMode, watchSize } from './terminal.js'

export interface AttachOptions {
  /** Forward this process' stdin. */
  stdin: boolean
  /** How much of it the exec has had before. */
  stdinOffset?: number
}

/**
 * Resolves with the ended exec once every byte of its output was written.
 *
 * @throws Exit 130 when the user let go of it with two Ctrl-C
 */
export async function attach(
  api: Api,
  exec: Pick<Exec, 'execId' | 'pty'>,
  { stdin, stdinOffset = 0 }: AttachOptions,
): Promise<Exec> {
  const { execId, pty } = exec
  const over = new AbortController()
  const { signal } = over
  const detached = Promise.withResolvers<never>()
  const undo: (() => void)[] = []
  if (pty !== null && stdin && process.stdin.isTTY) undo.push(enterRawMode(process.stdin))
  if (pty !== null) {
    undo.push(watchSize(process.stdout, (size) => void resize(api, execId, size)))
  }
  undo.push(
    onInterrupts({
      forward: (number) => void sendSignal(api, execId, number),
      letGo: () => detached.reject(new Exit(130)),
    }),
  )
  const end = waitForExec(api, execId, signal)
  const follow = (stream: 'stdout' | 'stderr', sink: NodeJS.WriteStream) => {
    const total = end.then((ended) => ended[stream]?.bytes ?? 0)
    total.catch(() => {}) // Told by `end` itself, which is awaited below.
    return followOutput(api, { path: path`/v1/execs/${execId}/output/${stream}` }, sink, {
      total,
      signal,
      note,
    })
  }
  const streams = [follow('stdout', process.stdout), follow('stderr', process.stderr)]
  if (stdin) {
    pumpStdin(api, execId, process.stdin, { offset: stdinOffset, signal }).catch((error: Error) => {
      if (!signal.aborted) note(`sandtrail: stdin is not forwarded any more: ${error.message}`)
    })
  }
  try {
    const [ended] = await Promise.race([Promise.all([end, ...streams]), detached.promise])
    return ended
  } catch (error) {
    if (error instanceof Exit)
      note(`\nsandtrail: let go of ${execId}, which runs on: sandtrail attach ${execId}`)
    throw error
  } finally {
    over.abort()
    for (const step of undo.reverse()) step()
    process.stdin.pause()
  }
}

/** Resolves when the exec has ended, however long that takes and whatever the connection does meanwhile. */
export async function waitForExec(api: Api, execId: string, signal?: AbortSignal): Promise<Exec> {
  for (;;) {
    const query = { timeoutMs: 60_000 }
    const ask = () => api.json<Exec>('GET', path`/v1/execs/${execId}/wait`, { query, signal })
    const exec = await patiently(ask, signal)
    if (exec.state === 'ended') return exec
  }
}

/** The sandbox's own end is recorded right after that of its execs. */
const SANDBOX_END_MS = 2_000

/** The exit code of the CLI for an exec's end; what is not the program's own doing is told on stderr. */
export async function exitCodeOf(api: Api, exec: Exec): Promise<number> {
  switch (exec.terminalEvent) {
    case 'ExecFailed':
      note(`sandtrail: ${exec.argv[0]} did not run: ${exec.reason}`)
      break
    case 'ExecLost': {
      const run = exec.mayHaveRun ? 'it may have run' : 'it did not run'
      note(`sandtrail: the exec was lost (${exec.reason}), ${run}\n  code: EXEC_LOST`)
      return await exitCodeOfLost(api, exec)
    }
    default:
      if (exec.reason === 'timeout') note('sandtrail: the exec ran into its time limit')
  }
  return exec.exitCode ?? 125
}

/** 137 when it went down with a sandbox that ran out of memory, as every program of it did. */
async function exitCodeOfLost(api: Api, { sandboxId }: Exec): Promise<number> {
  try {
    const query = { timeoutMs: SANDBOX_END_MS }
    const sandbox = await api.json<Sandbox>('GET', path`/v1/sandboxes/${sandboxId}/wait`, { query })
    return sandbox.errorCode === 'OUT_OF_MEMORY' ? 137 : 125
  } catch {
    return 125 // The loss is told already, and is what counts.
  }
}

const SIGHUP = 1

/** Tells the program that nobody listens any more. SIGPIPE would be ignored by many that meet it as an error instead. */
export async function hangUp(api: Api, execId: string): Promise<void> {
  await sendSignal(api, execId, SIGHUP)
}

async function sendSignal(api: Api, execId: string, number: number): Promise<void> {
  try {
    await api.json('POST', path`/v1/execs/${execId}/signal`, { json: { signal: number }, command: true })
  } catch (error) {
    note(`sandtrail: the signal was not delivered: ${(error as Error).message}`)
  }
}

async function resize(api: Api, execId: string, size: { rows: number; cols: number }): Promise<void> {
  // The next change tells the size again; a terminal that is a little off is no reason to disturb its user.
  await api.json('POST', path`/v1/execs/${execId}/resize`, { json: size }).catch(() => {})
}
