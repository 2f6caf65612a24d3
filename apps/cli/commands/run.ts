/**
 * `run`: a sandbox for one command. The command is its main process, so that the sandbox's own end carries the exit
 * code; one that wants stdin or a terminal, or a sandbox that stays, is run as an exec instead.
 */

import { fstatSync } from 'node:fs'
import { Api, path } from '../api.js'
import { attach, exitCodeOf as exitCodeOfExec, hangUp } from '../attach/attach.js'
import { followOutput } from '../attach/follow-output.js'
import { onInterrupts } from '../attach/signals.js'
import { whenNobodyReads } from '../broken-output.js'
import { Exit } from '../failure.js'
import { note, printLine, progress } from '../print.js'
import type { SandboxFlags } from '../program.js'
import { startExec } from './exec.js'
import { createSandbox, exitCodeOf, terminate, waitForSandbox } from './sandbox.js'

interface RunFlags extends SandboxFlags {
  interactive?: boolean
  tty?: boolean
  detach?: boolean
  keep?: boolean
}

/** @throws Exit with the command's exit code */
export async function run(command: string[], flags: RunFlags): Promise<never> {
  const api = Api.fromEnvironment()
  if (flags.interactive || flags.tty || flags.keep) throw new Exit(await runAsExec(api, command, flags))
  const { sandboxId } = await createSandbox(api, flags, command)
  if (isGivenInput(process.stdin.fd))
    note('sandtrail: stdin is not forwarded to the command: add -i for that')
  if (!flags.detach) throw new Exit(await followMain(api, sandboxId))
  printLine(sandboxId)
  throw new Exit(0)
}

/** A pipe of a shell or a file; not a terminal, not /dev/null, not what a program gives its children by itself. */
function isGivenInput(fd: number): boolean {
  try {
    const stat = fstatSync(fd)
    return stat.isFIFO() || stat.isFile()
  } catch {
    return false // Closed.
  }
}

async function followMain(api: Api, sandboxId: string): Promise<number> {
  let interrupted = false
  whenNobodyReads(() => terminate(api, sandboxId))
  const undo = onInterrupts({
    // The main process is the sandbox: to end it is to end the sandbox.
    forward: (signal) => {
      interrupted = signal === 2
      progress(`ending ${sandboxId}`)
      terminate(api, sandboxId).catch((error: Error) => note(`sandtrail: ${error.message}`))
    },
    letGo: () => {
      note(`\nsandtrail: ${sandboxId} was told to end; this client does not wait for it any more`)
      process.exit(130)
    },
  })
  try {
    const follow = (stream: 'stdout' | 'stderr', sink: NodeJS.WriteStream) =>
      followOutput(api, { path: path`/v1/sandboxes/${sandboxId}/logs`, query: { stream } }, sink, { note })
    const [sandbox] = await Promise.all([
      waitForSandbox(api, sandboxId),
      follow('stdout', process.stdout),
      follow('stderr', process.stderr),
    ])
    if (interrupted && sandbox.terminalEvent === 'SandboxTerminated') return 130
    return exitCodeOf(sandbox)
  } finally {
    undo()
  }
}

async function runAsExec(api: Api, command: string[], flags: RunFlags): Promise<number> {
  // These are for the command; the sandbox itself has none.
  const { workdir, user, ...rest } = flags
  const { sandboxId } = await createSandbox(api, rest, null)
  try {
    const wanted = { ...flags, workdir, user, env: [], stdin: true, timeout: undefined }
    const stdin = flags.interactive === true
    const exec = await startExec(api, sandboxId, command, wanted, stdin)
    if (flags.detach) {
      printLine(sandboxId)
      return 0
    }
    whenNobodyReads(() => (flags.keep ? hangUp(api, exec.execId) : terminate(api, sandboxId)))
    return await exitCodeOfExec(api, await attach(api, exec, { stdin }))
  } finally {
    if (!flags.keep && !flags.detach) await terminate(api, sandboxId)
    else progress(`${sandboxId} is kept`)
  }
}
