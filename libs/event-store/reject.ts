/** A refused command is decided too: its rejection is an event, and a re-send hears it again. */

import { type Rejected, toErrorBody } from '#libs/domain'
import { appendCommand, type OnCommitted } from './append.js'
import type { Database } from './database.js'
import type { AppendRequest, AppendResult, JsonObject } from './types.js'

export interface Rejection {
  tenant: string
  command: AppendRequest['command']
  error: Rejected
  meta: AppendRequest['meta']
  at: Date
}

/** The stream that a command's rejection is in: it has no aggregate to belong to. */
export function rejectionStream(tenant: string, commandId: string): string {
  return `command:${tenant}:${commandId}`
}

/**
 * Stores `CommandRejected{verb, code, message, hint}` and the outcome `{error: {code, message, hint, retryable}}`.
 * The result is `appended`, or what was decided before under this id.
 */
export async function rejectCommand(
  db: Database,
  { tenant, command, error, meta, at }: Rejection,
  onCommitted: OnCommitted = () => {},
): Promise<AppendResult> {
  const body = toErrorBody(error)
  const data: JsonObject = { verb: command.verb, code: body.code, message: body.message, hint: body.hint }
  const write = {
    stream: rejectionStream(tenant, command.id),
    expectedVersion: 0,
    events: [{ type: 'CommandRejected', typeVersion: 1, data }],
  }
  const outcome: JsonObject = { error: { ...body } }
  const request: AppendRequest = { tenant, command, outcome, meta, at, writes: [write] }
  return appendCommand(db, request, true, onCommitted)
}
