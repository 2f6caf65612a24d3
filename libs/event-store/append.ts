/**
 * The one way into the log: everything that one command writes, in one transaction, in a fixed order of locks.
 *
 *   command row -> live -> claims -> events -> timers -> reservation -> exec slot -> commit
 *
 * Statements go out together and are judged in this order, so an append costs two round trips; a look at the heads
 * comes before when it builds on existing streams. No statement raises an error for an expected outcome.
 */

import { randomUUID } from 'node:crypto'
import { SandtrailError } from '#libs/domain'
import { failpoint } from '#libs/failpoint'
import {
  connect,
  type Database,
  isConnectionLoss,
  nameTrouble,
  sqlState,
  type Transaction,
} from './database.js'
import { type Envelope, hashEvent, NO_HASH } from './envelope.js'
import { cleanObject, cleanText } from './json.js'
import { settleLostCommit } from './lost-commit.js'
import { releaseClaims, requireClaims, takeClaims } from './statements/claims.js'
import { type CommandRow, findStoredCommand, insertCommand } from './statements/commands.js'
import { type Head, insertEvents, selectHeads } from './statements/events.js'
import { changeExecSlot } from './statements/exec-slots.js'
import { changeLive } from './statements/live.js'
import { liveSandboxesWith } from './statements/mounts.js'
import { changeReservation } from './statements/reservations.js'
import { changeTimers } from './statements/timers.js'
import type { AppendRequest, AppendResult, Effects, EventMeta, StreamWrite } from './types.js'

/** Called after each commit with the number of events: the place for the nudge. Must not throw. */
export type OnCommitted = (events: number) => void

type Refusal = Exclude<AppendResult, { outcome: 'appended' }>
type ChainedEvent = Envelope & { hash: Buffer }

/** What the writing transaction needs, ready and checked. */
interface Prepared {
  request: AppendRequest
  row: CommandRow
  events: ChainedEvent[]
  versions: Record<string, number>
}

/**
 * Appends, or says why not; a refusal has changed nothing. Resolves only after the commit.
 * Throws INVALID_ARGUMENT for data that cannot be stored, UNAVAILABLE (retryable, with the same command id) when the
 * database cannot be reached or broke off: then nothing was written, unless the message says that this is unknown.
 */
export async function append(
  db: Database,
  request: AppendRequest,
  onCommitted: OnCommitted = () => {},
): Promise<AppendResult> {
  return appendCommand(db, request, false, onCommitted)
}

/** `append` for accepted and rejected commands alike. */
export async function appendCommand(
  db: Database,
  request: AppendRequest,
  rejected: boolean,
  onCommitted: OnCommitted,
): Promise<AppendResult> {
  check(request)
  const { tenant, command } = request
  const heads = await readHeads(db, request.writes)
  if (heads.conflict !== null) return explain(db, request, { outcome: 'conflict', stream: heads.conflict })

  const outcome = cleanObject(request.outcome, 'outcome')
  const row: CommandRow = { tenant, command, outcome, rejected, attempt: randomUUID() }
  const events = chain(request, heads.found)
  const versions = Object.fromEntries(events.map((event) => [event.stream, event.version]))
  const result = await write(db, { request, row, events, versions })
  if (result.outcome !== 'appended') return explain(db, request, result)
  onCommitted(events.length)
  return result
}

/** The writing transaction. A refusal rolls it back. */
async function write(db: Database, prepared: Prepared): Promise<AppendResult> {
  const { request, row, versions } = prepared
  // The client is given back before its loss is looked into: that takes a client too.
  const tx = await connect(db)
  let broken: Error | undefined
  try {
    const refusal = await sendAll(tx, prepared)
    failpoint('append-uncommitted')
    await tx.query(refusal === null ? 'commit' : 'rollback')
    return refusal ?? { outcome: 'appended', versions }
  } catch (error) {
    if (!isConnectionLoss(error)) {
      await tx.query('rollback').catch((failure) => {
        broken = failure
      })
      return refusalOf(error, request)
    }
    broken = error as Error
  } finally {
    tx.release(broken)
  }
  return settleLostCommit(db, row, versions, broken)
}

/** Sends every statement at once and returns the first refusal in the order of the locks. */
async function sendAll(tx: Transaction, { request, row, events }: Prepared): Promise<Refusal | null> {
  const { tenant, live, claims, timers, unmounted, reservation, execSlot } = request
  const steps: Promise<Refusal | null>[] = [
    tx.query('begin').then(() => null),
    insertCommand(tx, row).then((isNew) => (isNew ? null : { outcome: 'duplicate', stored: {} })),
  ]
  if (live) {
    steps.push(changeLive(tx, tenant, live).then((reason) => reason && { outcome: 'fenced', reason }))
  }
  if (claims?.release?.length) steps.push(releaseClaims(tx, tenant, claims.release).then(() => null))
  if (claims?.take?.length) {
    const taken = takeClaims(tx, tenant, claims.take)
    steps.push(taken.then((claim) => claim && { outcome: 'claim-taken', claim }))
  }
  if (claims?.require?.length) {
    const gone = requireClaims(tx, tenant, claims.require)
    steps.push(gone.then((claim) => claim && { outcome: 'conflict', stream: claim.holder }))
  }
  if (unmounted) {
    const { volumeId } = unmounted
    const users = liveSandboxesWith(tx, volumeId)
    steps.push(users.then(({ length }) => (length === 0 ? null : { outcome: 'conflict', stream: volumeId })))
  }
  if (events.length > 0) {
    steps.push(
      insertEvents(tx, events).then((stream) => (stream === null ? null : { outcome: 'conflict', stream })),
    )
  }
  if (timers) steps.push(changeTimers(tx, tenant, timers).then(() => null))
  if (reservation) {
    const lacking = changeReservation(tx, tenant, reservation)
    steps.push(lacking.then((lack) => lack && { outcome: 'no-capacity', ...lack }))
  }
  if (execSlot) {
    const slot = changeExecSlot(tx, tenant, execSlot)
    steps.push(slot.then((excess) => excess && { outcome: 'no-capacity', of: 'tenant', excess }))
  }

  // All of them, also after a failure: none may be left to reject unheard.
  const results = await Promise.allSettled(steps)
  for (const result of results) {
    if (result.status === 'rejected') throw result.reason
    if (result.value !== null) return result.value
  }
  return null
}

/** A deadlock's victim has lost a race like any other, and a lock may be free later; the rest is our bug. */
function refusalOf(error: unknown, request: AppendRequest): Refusal {
  const state = sqlState(error)
  const stream = request.writes[0]?.stream
  if ((state === '40P01' || state === '40001') && stream !== undefined) return { outcome: 'conflict', stream }
  throw nameTrouble(error)
}

/** A command that was decided before explains every other refusal, and is what the caller must hear. */
async function explain(db: Database, request: AppendRequest, refusal: Refusal): Promise<AppendResult> {
  const known = await findCommand(db, request.tenant, request.command.id, request.command.hash)
  if (known !== null) return known
  return refusal.outcome === 'duplicate' ? { outcome: 'expired' } : refusal
}

/** The quick check before deciding: what a command's first decision was, or null when there was none yet. */
export async function findCommand(
  db: Database,
  tenant: string,
  commandId: string,
  hash: Buffer,
): Promise<Extract<AppendResult, { outcome: 'duplicate' | 'id-reused' }> | null> {
  const stored = await findStoredCommand(db, tenant, commandId)
  if (stored === null) return null
  return stored.hash.equals(hash)
    ? { outcome: 'duplicate', stored: stored.outcome }
    : { outcome: 'id-reused' }
}

/** Heads are immutable once committed, so they may be read before the transaction; the key guards the rest. */
async function readHeads(
  db: Database,
  writes: StreamWrite[],
): Promise<{ conflict: string | null; found: Map<string, Head> }> {
  const building = writes.filter(
    (write) => write.expectedVersion > 0 && write.events.length > 0 && !write.prevHash,
  )
  if (building.length === 0) return { conflict: null, found: new Map() }
  const streams = building.map((write) => write.stream)
  const found = await selectHeads(db, streams)
  const lost = building.find((write) => found.get(write.stream)?.version !== write.expectedVersion)
  return { conflict: lost?.stream ?? null, found }
}

function chain(request: AppendRequest, heads: Map<string, Head>): ChainedEvent[] {
  const { tenant, at } = request
  const events: ChainedEvent[] = []
  let effects = effectsOf(request)
  const meta = cleanObject({ ...request.meta, commandId: request.command.id, effects: null }, 'meta')
  // One order of streams for everybody, so that two appends over the same streams never wait for each other.
  for (const write of [...request.writes].sort((a, b) => (a.stream < b.stream ? -1 : 1))) {
    let prevHash = write.prevHash ?? heads.get(write.stream)?.hash ?? NO_HASH
    for (const [i, event] of write.events.entries()) {
      const version = write.expectedVersion + i + 1
      const envelope: Envelope = {
        tenant,
        stream: write.stream,
        version,
        type: cleanText(event.type, 'type'),
        typeVersion: event.typeVersion,
        at,
        eventId: randomUUID(),
        data: cleanObject(event.data, `data of ${event.type}`),
        sealed: event.sealed ?? null,
        meta: { ...(meta as unknown as EventMeta), effects },
        prevHash,
      }
      effects = null
      prevHash = hashEvent(envelope)
      events.push({ ...envelope, hash: prevHash })
    }
  }
  return events
}

function effectsOf({ live, claims, reservation, execSlot }: AppendRequest): Effects | null {
  const effects = cleanObject(
    {
      live: live?.action === 'require' ? undefined : live,
      claims: changesOf(claims),
      reservation,
      execSlot: execSlot && { ...execSlot },
    },
    'effects',
  )
  return Object.keys(effects).length > 0 ? effects : null
}

/** What is only required changes nothing. */
function changesOf({ take, release }: NonNullable<AppendRequest['claims']> = {}) {
  return take?.length || release?.length ? { take, release } : undefined
}

function check(request: AppendRequest): void {
  const { tenant, command, writes, at } = request
  cleanText(tenant, 'tenant')
  cleanText(command.id, 'command id')
  const streams = new Set(writes.map((write) => cleanText(write.stream, 'stream')))
  if (streams.size !== writes.length) throw invalid('a stream is written twice in one append')
  if (Number.isNaN(at.getTime()) || Number.isNaN(command.expiresAt.getTime())) {
    throw invalid('a time is not a date')
  }
  const hasEvents = writes.some((write) => write.events.length > 0)
  // `verify` rebuilds effects from events: without one they would look like tampering.
  if (!hasEvents && effectsOf(request) !== null) throw invalid('effects need at least one event')
}

function invalid(message: string): SandtrailError {
  return new SandtrailError('INVALID_ARGUMENT', message)
}
