/**
 * The one way into the log: everything that one command writes, in one transaction (write.ts), which it may share with
 * other commands (group-commit.ts). When it builds on existing streams, a look at their heads comes before.
 */

import { randomUUID } from 'node:crypto'
import { SandtrailError } from '#libs/domain'
import type { Database } from './database.js'
import { canonicalEnvelope, NO_HASH, sha256 } from './envelope.js'
import { groupsOf } from './group-commit.js'
import { inOrder } from './group-json.js'
import { cleanText, storableJson } from './json.js'
import { type CommandRow, findStoredCommand } from './statements/commands.js'
import { type Head, selectHeads } from './statements/events.js'
import type { AppendRequest, AppendResult, Effects, StreamWrite } from './types.js'
import type { ChainedEvent, Refusal } from './write.js'

/** Called after each commit with the number of events: the place for the nudge. Must not throw. */
export type OnCommitted = (events: number) => void

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

  const outcome = storableJson(request.outcome, 'outcome')
  const row: CommandRow = { tenant, command, outcome, rejected, attempt: randomUUID() }
  const events = chain(request, heads.found)
  const versions = Object.fromEntries(events.map((event) => [event.stream, event.version]))
  const result = await groupsOf(db).write({ request, row, events, versions })
  if (result.outcome !== 'appended') return explain(db, request, result)
  onCommitted(events.length)
  return result
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
  const metaWith = (effects: Effects | null) =>
    storableJson({ ...request.meta, commandId: request.command.id, effects }, 'meta')
  const meta = metaWith(null)
  const effects = effectsOf(request)
  // One order of streams for everybody, so that two appends over the same streams never wait for each other.
  for (const { stream, expectedVersion, ...write } of inOrder(request.writes, (write) => write.stream)) {
    let prevHash = write.prevHash ?? heads.get(stream)?.hash ?? NO_HASH
    for (const [i, { type, typeVersion, data, sealed = null }] of write.events.entries()) {
      const version = expectedVersion + i + 1
      const text = canonicalEnvelope({
        tenant,
        stream,
        version,
        type: cleanText(type, 'type'),
        typeVersion,
        at,
        eventId: randomUUID(),
        data: storableJson(data, `data of ${type}`),
        sealed,
        meta: events.length === 0 && effects !== null ? metaWith(effects) : meta,
        prevHash,
      })
      prevHash = sha256(text)
      events.push({ stream, version, text, hash: prevHash })
    }
  }
  return events
}

function effectsOf({ live, claims, reservation, execSlot }: AppendRequest): Effects | null {
  const effects = {
    live: live?.action === 'require' ? undefined : live,
    claims: changesOf(claims),
    reservation,
    execSlot,
  }
  return Object.values(effects).some((effect) => effect !== undefined) ? (effects as Effects) : null
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
