/** `sandbox.tag` and `sandbox.name`: what a sandbox is found by, changed after its create. Its worker need not know. */

import { type Command, handleCommand, record } from '#libs/command-handling'
import type { Accepted, CommandBody } from '#libs/contract'
import { decideSandbox, type SandboxId } from '#libs/domain'
import type { Scheduler } from './context.js'
import { nameClaims, nameTaken } from './names.js'
import { loadSandbox } from './resolve.js'

export async function tagSandbox(
  scheduler: Scheduler,
  command: Command<CommandBody<'sandbox.tag'>>,
): Promise<Accepted> {
  const { tenant, body } = command
  const { sandboxId, tags } = body
  const { accepted } = await handleCommand(scheduler, command, async () => {
    const { state, version } = await loadSandbox(scheduler.db, tenant, sandboxId)
    const events = decideSandbox(state, { type: 'TagSandbox', tags })
    return {
      outcome: { sandboxId },
      writes: [{ stream: sandboxId, expectedVersion: version, events: record(events) }],
    }
  })
  return accepted
}

export async function nameSandbox(
  scheduler: Scheduler,
  command: Command<CommandBody<'sandbox.name'>>,
): Promise<Accepted> {
  const { tenant, body } = command
  const sandboxId = body.sandboxId as SandboxId
  const { accepted } = await handleCommand(scheduler, command, async () => {
    const { state, version } = await loadSandbox(scheduler.db, tenant, sandboxId)
    const events = decideSandbox(state, { type: 'NameSandbox', name: body.name })
    const outcome = { sandboxId }
    const writes = [{ stream: sandboxId, expectedVersion: version, events: record(events) }]
    if (events.length === 0) return { outcome, writes }
    const spec = { ...state.spec, name: body.name }
    return {
      outcome,
      writes,
      claims: { take: nameClaims(spec, sandboxId) },
      onClaimTaken: () => nameTaken(spec),
    }
  })
  return accepted
}
