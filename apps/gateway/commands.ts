/** Sends a command to the service that decides on it. The gateway itself decides nothing. */

import { randomUUID } from 'node:crypto'
import {
  type Accepted,
  COMMAND_EXPIRY_MS_DEFAULT,
  COMMAND_REPLY_MS_MAX,
  COMMANDS,
  type CommandBody,
  type CommandName,
  parseBody,
} from '#libs/contract'
import { Rejected } from '#libs/domain'
import { commandHeaders, isCommandId, type Messaging, subjects } from '#libs/messaging'
import { correlate, correlation, traced } from '#libs/service'

/** Who sends it, and under which id: a re-send with the same one has no second effect. */
export interface Origin {
  tenant: string
  actor: string
  commandId: string
  traceparent: string | null
}

/**
 * Checks the body and resolves with the acceptance, after its commit.
 *
 * @throws Rejected for a bad body or what a rule forbids
 * @throws SandtrailError UNAVAILABLE when no service answers
 */
export async function sendCommand<N extends CommandName>(
  messaging: Messaging,
  origin: Origin,
  name: N,
  body: unknown,
): Promise<{ accepted: Accepted; body: CommandBody<N> }> {
  const parsed = parseBody(COMMANDS[name], body) as CommandBody<N>
  const { tenant, commandId, traceparent } = origin
  const correlated = { tenant, commandId, ...(traceparent === null ? {} : { traceparent }) }
  const accepted = await correlate(correlated, () =>
    traced(name, { kind: 'server' }, () => ask(messaging, origin, name, parsed)),
  )
  return { accepted, body: parsed }
}

async function ask(messaging: Messaging, origin: Origin, name: CommandName, body: object): Promise<Accepted> {
  const startedMs = performance.now()
  const [aggregate, verb] = name.split('.') as [string, string]
  const headers = commandHeaders({
    ...origin,
    traceparent: correlation().traceparent ?? null,
    expiresAt: new Date(Date.now() + COMMAND_EXPIRY_MS_DEFAULT),
  })
  const subject = subjects.request(origin.tenant, aggregate, verb)
  const tookMs = () => Math.round(performance.now() - startedMs)
  try {
    const reply = await messaging.request(subject, body, { timeoutMs: COMMAND_REPLY_MS_MAX, headers })
    const accepted = reply as unknown as Accepted
    const { sandboxId, execId } = accepted
    messaging.log.info({ command: name, sandboxId, execId, tookMs: tookMs() }, 'command answered')
    return accepted
  } catch (error) {
    const { code } = error as { code?: string }
    messaging.log.info({ command: name, code, tookMs: tookMs() }, 'command refused')
    throw error
  }
}

/** The command id that the caller gave, or a new one. @throws Rejected INVALID_ARGUMENT */
export function commandIdFrom(header: string | undefined): string {
  if (header === undefined) return randomUUID()
  if (isCommandId(header)) return header
  throw new Rejected('INVALID_ARGUMENT', 'the Idempotency-Key is malformed', {
    hint: 'use 8 to 128 letters, digits, ".", "_", ":" or "-"',
  })
}
