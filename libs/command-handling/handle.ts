/**
 * The life of one command, the same in every service that decides:
 *
 *   check the envelope -> check the body -> decided before? -> decide on fresh state -> append -> accepted
 *                                                                   ^___ a lost race, at most 3 tries
 *
 * A refusal by a rule is stored with the command's id; trouble that may pass is not, so it may be sent again.
 */

import type { Accepted } from '#libs/contract'
import { type ErrorBody, type Excess, fromErrorBody, Rejected, SandtrailError } from '#libs/domain'
import {
  type AppendRequest,
  append,
  type Database,
  findCommand,
  type JsonObject,
  type OnCommitted,
  rejectCommand,
} from '#libs/event-store'
import { failpoint } from '#libs/failpoint'
import type { Command } from './envelope.js'

/** What an attempt to decide wants to be written. `outcome` lacks what the append itself will tell. */
export interface Decision extends Omit<AppendRequest, 'tenant' | 'command' | 'outcome' | 'meta' | 'at'> {
  outcome: Omit<Accepted, 'ok' | 'commandId' | 'stream' | 'version'>
  /** Tells a taken claim as what it means to the caller; default NAME_TAKEN. */
  onClaimTaken?: (key: string) => Rejected
}

const ATTEMPTS_MAX = 3

export interface HandleOptions {
  db: Database
  onCommitted?: OnCommitted
}

/**
 * Resolves with the acceptance only after the commit, or with the first one for a re-send.
 *
 * @throws Rejected for what a rule forbids (stored: a re-send hears the same)
 * @throws SandtrailError for what may pass (NO_CAPACITY, STREAM_BUSY, UNAVAILABLE)
 */
export async function handleCommand<Body>(
  { db, onCommitted }: HandleOptions,
  command: Command<Body>,
  decide: (at: Date) => Promise<Decision>,
): Promise<{ accepted: Accepted; isNew: boolean }> {
  let lost = ''
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
    const at = new Date()
    failpoint('intake-received')
    let decision: Decision
    try {
      decision = await decide(at)
    } catch (error) {
      // An earlier try with this id may have been decided, and then that counts; the append would have told.
      const known = await findCommand(db, command.tenant, command.ref.id, command.ref.hash)
      if (known) return { accepted: storedOutcome(known), isNew: false }
      if (error instanceof Rejected)
        return { accepted: await reject(db, command, error, at, onCommitted), isNew: false }
      throw error
    }
    const { outcome, onClaimTaken, ...writes } = decision
    const [first] = writes.writes
    if (first === undefined) throw new Error('a decision must name the stream that it is about')
    const accepted: Accepted = {
      ok: true,
      commandId: command.ref.id,
      stream: first.stream,
      version: first.expectedVersion + first.events.length,
      ...outcome,
    }
    const { tenant, ref, meta } = command
    const request = { ...writes, tenant, command: ref, outcome: { ...accepted } as JsonObject, meta, at }
    const result = await append(db, request, onCommitted)
    switch (result.outcome) {
      case 'appended':
        failpoint('intake-committed')
        return { accepted, isNew: true }
      case 'duplicate':
      case 'id-reused':
      case 'expired':
        return { accepted: storedOutcome(result), isNew: false }
      case 'claim-taken': {
        const taken =
          onClaimTaken ?? ((key: string) => new Rejected('NAME_TAKEN', `the name ${key} is taken`))
        return { accepted: await reject(db, command, taken(result.claim.key), at, onCommitted), isNew: false }
      }
      case 'no-capacity':
        if (result.of === 'tenant') {
          throw quotaExceeded(result.excess)
        }
        lost = 'the worker that had room filled up'
        break // Under the decision: another may have room.
      case 'fenced':
        if (result.reason === 'closing') {
          const gone = new Rejected('SANDBOX_GONE', 'the sandbox is ending')
          return { accepted: await reject(db, command, gone, at, onCommitted), isNew: false }
        }
        lost = `the sandbox of ${first.stream} ended or moved on`
        break // Under the decision: decide again on what is true now.
      case 'conflict':
        lost = `${result.stream} changed`
        break
    }
  }
  throw new SandtrailError('STREAM_BUSY', `decided ${ATTEMPTS_MAX} times, the last time ${lost} meanwhile`, {
    hint: 'send it again with the same id',
  })
}

/** Nobody knows when room comes back: a sandbox or an exec has to end first. */
const QUOTA_RETRY_MS = 1_000

function quotaExceeded({ quota, limit, used, asked }: Excess): SandtrailError {
  const fits = asked <= limit
  return new SandtrailError(
    'QUOTA_EXCEEDED',
    `the quota ${quota} of the tenant is ${limit}: ${used} in use, ${asked} asked for`,
    {
      hint: fits
        ? `end ${quota === 'execs' ? 'execs' : 'sandboxes'} that are not needed, or ask an operator to raise it (\`sandtrail tenant set\`)`
        : 'ask for less, or ask an operator to raise it (`sandtrail tenant set`)',
      retryable: fits,
      detail: quota,
      ...(fits && { retryAfterMs: QUOTA_RETRY_MS }),
    },
  )
}

async function reject<Body>(
  db: Database,
  { tenant, ref, meta }: Command<Body>,
  error: Rejected,
  at: Date,
  onCommitted?: OnCommitted,
): Promise<Accepted> {
  const result = await rejectCommand(db, { tenant, command: ref, error, meta, at }, onCommitted)
  // Another try with this id may have been decided meanwhile; then that one counts.
  if (result.outcome === 'duplicate' || result.outcome === 'id-reused') return storedOutcome(result)
  throw error
}

function storedOutcome(
  result: { outcome: 'duplicate'; stored: JsonObject } | { outcome: 'id-reused' | 'expired' },
): Accepted {
  switch (result.outcome) {
    case 'duplicate': {
      const stored = result.stored as unknown as Accepted | { error: ErrorBody }
      if ('error' in stored) throw fromErrorBody(stored.error)
      return stored
    }
    case 'id-reused':
      throw new Rejected('COMMAND_ID_REUSED', 'this command id was used before, with another body', {
        hint: 'make a new id for each command, and re-send only with the same body',
      })
    case 'expired':
      throw new Rejected('COMMAND_EXPIRED', 'the command came after its expiresAt', {
        hint: 'send it with a new id',
      })
  }
}
