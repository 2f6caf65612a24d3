/** Execs by the id that the client chose: it is the id of the command, so a start that is sent again starts nothing. */

import type { HandlerContext } from '@connectrpc/connect'
import { EXEC_TERMINAL_EVENTS, Rejected, type SandboxId, SandtrailError } from '#libs/domain'
import { findStoredCommand } from '#libs/event-store'
import { isCommandId } from '#libs/messaging'
import { sendCommand } from '../commands.js'
import type { Gateway } from '../gateway.js'
import { readExec } from '../lookup.js'
import type { ExecView } from '../views/exec.js'
import type { Call } from './calls.js'
import { terminalOf } from './create-options.js'
import { environmentOf } from './environment.js'
import { unimplemented } from './errors.js'
import type { PTYInfo } from './gen/client_pb.js'
import { type TaskExecStartRequest, TaskExecStderrConfig } from './gen/task_command_router_pb.js'

export type ExitStatus =
  | { case: 'code'; value: number }
  | { case: 'signal'; value: number }
  | { case: undefined; value?: undefined }

const SIGKILL = 9
/** To the client's deadline; the SDKs set 60 s and ask again. */
const ANSWER_MS = 500
const WAIT_MS_MAX = 300_000

/** Resolves after the commit. @throws Rejected SANDBOX_GONE, UNIMPLEMENTED ... */
export async function startExec(
  gateway: Gateway,
  { tenant, tokenId, traceparent }: Call,
  sandboxId: SandboxId,
  request: TaskExecStartRequest,
): Promise<void> {
  if (request.stderrConfig === TaskExecStderrConfig.STDOUT) {
    throw unimplemented('stderr within stdout', 'read both streams')
  }
  const { commandArgs, workdir, timeoutSecs, secretIds, secretSources, ptyInfo } = request
  const pty = ptyInfo?.enabled ? ptyInfo : undefined
  const env = await environmentOf(gateway, tenant, { sources: secretSources, secretIds, env: request.env })
  const body = {
    sandboxId,
    argv: commandArgs,
    workdir: workdir ?? null,
    env: { ...terminalEnvironment(pty), ...env },
    pty: terminalOf(pty),
    stdin: 'open',
    timeoutMs: timeoutSecs ? timeoutSecs * 1_000 : null,
  }
  const commandId = commandIdOf(sandboxId, request.execId)
  await sendCommand(
    gateway.messaging,
    { tenant, actor: `token:${tokenId}`, commandId, traceparent },
    'sandbox.exec',
    body,
  )
}

/** @throws Rejected EXEC_NOT_FOUND */
export async function findExec(
  { db }: Gateway,
  tenant: string,
  sandboxId: SandboxId,
  clientsExecId: string,
): Promise<string> {
  const command = await findStoredCommand(db, tenant, commandIdOf(sandboxId, clientsExecId))
  const { execId } = (command?.outcome ?? {}) as { execId?: string }
  if (execId !== undefined && command?.rejected === false) return execId
  throw new Rejected('EXEC_NOT_FOUND', `the sandbox has no exec ${clientsExecId}`)
}

/** @throws SandtrailError DEADLINE_EXCEEDED in time for the client, which asks again */
export async function waitForExec(
  { db, waiter }: Gateway,
  tenant: string,
  execId: string,
  context: HandlerContext,
): Promise<ExitStatus> {
  const timeoutMs = Math.max(0, (context.timeoutMs() ?? WAIT_MS_MAX) - ANSWER_MS)
  await waiter.until(execId, EXEC_TERMINAL_EVENTS, { timeoutMs, signal: context.signal })
  const status = exitStatusOf(await readExec(db, tenant, execId))
  if (status.case !== undefined) return status
  throw new SandtrailError('DEADLINE_EXCEEDED', 'the exec is still running')
}

export async function pollExec({ db }: Gateway, tenant: string, execId: string): Promise<ExitStatus> {
  return exitStatusOf(await readExec(db, tenant, execId))
}

function exitStatusOf(exec: ExecView): ExitStatus {
  if (exec.state !== 'ended') return { case: undefined }
  if (exec.errorCode === 'EXEC_LOST') throw new Rejected('EXEC_LOST', exec.reason ?? 'the exec was lost')
  // It was killed, whatever its code is to us.
  if (exec.reason === 'timeout') return { case: 'signal', value: SIGKILL }
  if (exec.signal !== null) return { case: 'signal', value: exec.signal }
  return { case: 'code', value: exec.exitCode ?? 0 }
}

function commandIdOf(sandboxId: string, clientsExecId: string): string {
  const commandId = `modal:exec:${sandboxId}:${clientsExecId}`
  if (clientsExecId !== '' && isCommandId(commandId)) return commandId
  throw new Rejected('INVALID_ARGUMENT', 'the id of the exec is malformed', { hint: 'send a UUID' })
}

function terminalEnvironment(pty: PTYInfo | undefined): Record<string, string> {
  if (pty === undefined) return {}
  const given = { TERM: pty.envTerm, COLORTERM: pty.envColorterm, TERM_PROGRAM: pty.envTermProgram }
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== ''))
}
