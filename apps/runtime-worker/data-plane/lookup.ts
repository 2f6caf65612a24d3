/**
 * Finds what a request is about. A caller may be quicker than the order that brings its sandbox or exec here: that is
 * waited for, shortly.
 */

import { setTimeout as delay } from 'node:timers/promises'
import { Rejected, type SandboxId } from '#libs/domain'
import type { ExecKey } from '../sandboxes/journal.js'
import type { Sandboxes } from '../sandboxes/registry.js'
import type { Sandbox } from '../sandboxes/sandbox.js'
import type { ExecOutput, Spool } from '../spool/spool.js'

interface OfExec {
  sandboxId: SandboxId
  execId: ExecKey
}

/** An order that was lost comes again with a heartbeat. */
const ARRIVAL_MS_MAX = 5_000
const LOOK_MS = 20

/** The sandbox that has, or had, this exec. @throws Rejected SANDBOX_NOT_FOUND, EXEC_NOT_FOUND */
export async function findSandbox(sandboxes: Sandboxes, { sandboxId, execId }: OfExec): Promise<Sandbox> {
  const found = await soon(() => {
    const sandbox = sandboxes.get(sandboxId)
    return sandbox?.journal.state.execs.has(execId) ? sandbox : undefined
  })
  if (found !== undefined) return found
  if (sandboxes.get(sandboxId) !== undefined) throw execNotFound({ sandboxId, execId })
  throw new Rejected('SANDBOX_NOT_FOUND', `${sandboxId} is not on this worker`)
}

/** Also of a sandbox that is gone, for as long as output is kept. @throws Rejected EXEC_NOT_FOUND */
export async function findOutput(spool: Spool, { sandboxId, execId }: OfExec): Promise<ExecOutput> {
  const output = await soon(() => spool.find(sandboxId, execId) ?? undefined)
  if (output === undefined) throw execNotFound({ sandboxId, execId })
  return output
}

function execNotFound({ sandboxId, execId }: OfExec): Rejected {
  return new Rejected('EXEC_NOT_FOUND', `${execId} of ${sandboxId} is not on this worker`)
}

async function soon<T>(look: () => T | undefined): Promise<T | undefined> {
  const giveUpAt = performance.now() + ARRIVAL_MS_MAX
  for (;;) {
    const found = look()
    if (found !== undefined || performance.now() > giveUpAt) return found
    await delay(LOOK_MS)
  }
}
