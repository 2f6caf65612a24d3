/** What is asked of the agent at the start of an exec, in words that may be repeated without a second effect. */

import type { AgentSession, ExecOutcome } from '#libs/agent-client'
import { type ExecSpec, Rejected, SandtrailError } from '#libs/domain'
import type { ExecKey } from '../sandboxes/journal.js'

export interface Program {
  key: ExecKey
  spec: ExecSpec
  env: Record<string, string>
}

/** An agent that does not answer is asked again while `goesOn`: by the exec's id that starts nothing twice. */
export async function startProgram(
  agent: AgentSession,
  { key, spec, env }: Program,
  goesOn: () => boolean,
): Promise<ExecOutcome> {
  for (;;) {
    try {
      return await agent.exec({
        execId: key,
        argv: spec.argv,
        env,
        cwd: spec.workdir,
        user: spec.user,
        pty: spec.pty,
        stdin: spec.stdin === 'closed' ? 'closed' : 'open',
        timeoutMs: spec.timeoutMs,
      })
    } catch (error) {
      const isSilent = error instanceof SandtrailError && error.code === 'AGENT_UNREACHABLE'
      if (!isSilent || !goesOn()) throw error
    }
  }
}

/** All of a small stdin, which came with the order. A program that does not want it is no error. */
export async function feedStdin(agent: AgentSession, key: ExecKey, stdin: Buffer): Promise<void> {
  await agent.writeStdin(key, 0, stdin, { eof: true }).catch(unlessEnded)
}

/**
 * After a restart of the worker: ends a small stdin of `bytes` if the agent has all of it. False: the rest is gone
 * with the process that had it.
 */
export async function endStdin(agent: AgentSession, key: ExecKey, bytes: number): Promise<boolean> {
  try {
    const { acceptedTo } = await agent.writeStdin(key, 0, Buffer.alloc(0))
    if (acceptedTo < bytes) return false
    await agent.writeStdin(key, bytes, Buffer.alloc(0), { eof: true })
  } catch (error) {
    unlessEnded(error)
  }
  return true
}

function unlessEnded(error: unknown): void {
  if (!(error instanceof Rejected && error.code === 'EXEC_ENDED')) throw error
}
