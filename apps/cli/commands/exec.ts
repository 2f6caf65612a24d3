import { Api, path } from '../api.js'
import { attach, exitCodeOf, hangUp } from '../attach/attach.js'
import { terminalSize } from '../attach/terminal.js'
import { whenNobodyReads } from '../broken-output.js'
import { Exit, usage } from '../failure.js'
import { parseEnv } from '../options.js'
import { chooseFormat, printJson, printLine } from '../print.js'
import type { ExecFlags } from '../program.js'
import type { Exec } from '../types.js'

/** @throws Exit with the command's exit code */
export async function exec(sandbox: string, command: string[], flags: ExecFlags): Promise<never> {
  if (flags.output !== undefined) chooseFormat(flags.output)
  if (flags.interactive && !flags.stdin) throw usage('-i and --no-stdin exclude each other')
  const api = Api.fromEnvironment()
  const stdin = wantsStdin(flags)
  const started = await startExec(api, sandbox, command, flags, stdin)
  if (flags.detach) {
    if (flags.output === 'json') printJson({ execId: started.execId, sandboxId: started.sandboxId })
    else printLine(started.execId)
    throw new Exit(0)
  }
  whenNobodyReads(() => hangUp(api, started.execId))
  throw new Exit(await exitCodeOf(api, await attach(api, started, { stdin })))
}

/** Starts the exec; `tty` gives it a terminal of the local one's size. */
export async function startExec(
  api: Api,
  sandbox: string,
  command: string[],
  flags: Pick<ExecFlags, 'tty' | 'env' | 'workdir' | 'user' | 'timeout'>,
  stdin: boolean,
): Promise<Pick<Exec, 'execId' | 'sandboxId' | 'pty'>> {
  const pty = flags.tty ? terminalSize() : null
  const { execId, sandboxId } = await api.json<{ execId: string; sandboxId: string }>(
    'POST',
    path`/v1/sandboxes/${sandbox}/execs`,
    {
      command: true,
      json: {
        argv: command,
        env: { ...(pty === null ? {} : terminalEnv()), ...parseEnv(flags.env, process.env) },
        workdir: flags.workdir ?? null,
        user: flags.user ?? null,
        timeoutMs: flags.timeout ?? null,
        pty,
        stdin: stdin ? 'open' : 'closed',
      },
    },
  )
  return { execId, sandboxId, pty }
}

/**
 * A pipe or a file is forwarded without being asked for, so that `tar c . | sandtrail exec SB -- tar x` works; a
 * terminal only with -i.
 */
function wantsStdin({ interactive, detach, stdin }: ExecFlags): boolean {
  if (interactive) return true
  return stdin && !detach && !process.stdin.isTTY
}

function terminalEnv(): Record<string, string> {
  return process.env.TERM ? { TERM: process.env.TERM } : {}
}
