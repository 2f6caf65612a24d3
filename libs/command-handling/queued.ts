/** A command that came through COMMANDS: nobody waits for a reply, so its outcome is published for whoever listens. */

import { Rejected, SandtrailError, toErrorBody } from '#libs/domain'
import { failpoint } from '#libs/failpoint'
import type { MessageContext, Messaging } from '#libs/messaging'

/** Trouble that the queue's own redelivery cures; everything else is an outcome for the caller to act on. */
const REDELIVERED = new Set(['UNAVAILABLE', 'TLS_FAILED', 'STREAM_BUSY', 'DEADLINE_EXCEEDED'])

/**
 * Publishes the outcome on `out.<commandId>`, for each delivery and each re-send again.
 *
 * @throws what should be tried again later; the transport then delivers the message again
 */
export async function answerQueued(
  messaging: Messaging,
  context: Pick<MessageContext, 'tenant' | 'commandId'>,
  run: () => Promise<object>,
): Promise<void> {
  let outcome: object
  try {
    outcome = await run()
  } catch (error) {
    const known = error instanceof Rejected || error instanceof SandtrailError
    if (!known || REDELIVERED.has(error.code)) throw error
    outcome = { error: toErrorBody(error) }
  }
  if (context.commandId !== null) messaging.publishOutcome(context.tenant, context.commandId, outcome)
  failpoint('intake-answered')
}
