/**
 * The writing transaction of one command, or of several at once, with a fixed order of locks:
 *
 *   command rows -> live -> claims -> events -> timers -> reservations -> exec slots -> commit
 *
 * Statements go out together and are judged in this order, so it costs two round trips. Within a step the rows are
 * taken in the order of their keys. No statement raises an error for an expected outcome.
 */

import { failpoint } from '#libs/failpoint'
import {
  connect,
  type Database,
  isConnectionLoss,
  nameTrouble,
  sqlState,
  type Transaction,
} from './database.js'
import type { Envelope } from './envelope.js'
import { settleLostCommit } from './lost-commit.js'
import { releaseClaims, requireClaims, takeClaims } from './statements/claims.js'
import { type CommandRow, insertCommands } from './statements/commands.js'
import { insertEvents } from './statements/events.js'
import { releaseExecSlots, takeExecSlots } from './statements/exec-slots.js'
import { changeLive, requireLive } from './statements/live.js'
import { liveSandboxesWith } from './statements/mounts.js'
import { changeReservation } from './statements/reservations.js'
import { changeTimers } from './statements/timers.js'
import type { AppendRequest, AppendResult } from './types.js'

export type Refusal = Exclude<AppendResult, { outcome: 'appended' }>
export type ChainedEvent = Envelope & { hash: Buffer }

/** What the transaction needs of a command, ready and checked. */
export interface Prepared {
  request: AppendRequest
  row: CommandRow
  events: ChainedEvent[]
  versions: Record<string, number>
}

/** Of each command its result, or why there is none. */
export type Written = PromiseSettledResult<AppendResult>[]

/**
 * All or none: null when one of several was refused, or failed; then nothing was written, and each is to be written
 * apart. All of one tenant.
 */
export async function write(db: Database, group: Prepared[]): Promise<Written | null> {
  // The client is given back before its loss is looked into: that takes a client too.
  const tx = await connect(db)
  let broken: Error | undefined
  try {
    const refusal = await sendAll(tx, group)
    failpoint('append-uncommitted')
    await tx.query(refusal === null ? 'commit' : 'rollback')
    if (refusal !== null) return group.length > 1 ? null : [fulfilled(refusal)]
    return group.map(({ versions }) => fulfilled({ outcome: 'appended', versions }))
  } catch (error) {
    if (!isConnectionLoss(error)) {
      await tx.query('rollback').catch((failure) => {
        broken = failure
      })
      return group.length > 1 ? null : [fulfilled(refusalOf(error, group[0]!.request))]
    }
    broken = error as Error
  } finally {
    tx.release(broken)
  }
  return Promise.allSettled(group.map(({ row, versions }) => settleLostCommit(db, row, versions, broken)))
}

const fulfilled = (value: AppendResult) => ({ status: 'fulfilled' as const, value })

/** Sends every statement at once and returns the first refusal in the order of the locks. */
async function sendAll(tx: Transaction, group: Prepared[]): Promise<Refusal | null> {
  const requests = group.map(({ request }) => request)
  const { tenant } = requests[0]!
  const steps: Promise<Refusal | null>[] = [
    tx.query('begin').then(() => null),
    insertCommands(
      tx,
      tenant,
      group.map(({ row }) => row),
    ).then((areNew) => (areNew ? null : { outcome: 'duplicate', stored: {} })),
  ]
  const lives = requests.flatMap(({ live }) => live ?? [])
  const required = lives.filter((live) => live.action === 'require')
  if (required.length > 0) {
    steps.push(requireLive(tx, tenant, required).then((reason) => reason && { outcome: 'fenced', reason }))
  }
  const changed = lives.filter((live) => live.action !== 'require')
  for (const live of inOrder(changed, ({ sandboxId }) => sandboxId)) {
    steps.push(changeLive(tx, tenant, live).then((reason) => reason && { outcome: 'fenced', reason }))
  }
  const released = requests.flatMap(({ claims }) => claims?.release ?? [])
  if (released.length > 0) steps.push(releaseClaims(tx, tenant, released).then(() => null))
  const taken = requests.flatMap(({ claims }) => claims?.take ?? [])
  if (taken.length > 0) {
    steps.push(takeClaims(tx, tenant, taken).then((claim) => claim && { outcome: 'claim-taken', claim }))
  }
  const needed = requests.flatMap(({ claims }) => claims?.require ?? [])
  if (needed.length > 0) {
    const gone = requireClaims(tx, tenant, needed)
    steps.push(gone.then((claim) => claim && { outcome: 'conflict', stream: claim.holder }))
  }
  for (const { unmounted } of requests) {
    if (!unmounted) continue
    const { volumeId } = unmounted
    const users = liveSandboxesWith(tx, volumeId)
    steps.push(users.then(({ length }) => (length === 0 ? null : { outcome: 'conflict', stream: volumeId })))
  }
  const events = inOrder(
    group.flatMap((each) => each.events),
    ({ stream }) => stream,
  )
  if (events.length > 0) {
    steps.push(
      insertEvents(tx, events).then((stream) => (stream === null ? null : { outcome: 'conflict', stream })),
    )
  }
  const timers = {
    cancel: requests.flatMap((each) => each.timers?.cancel ?? []),
    consume: requests.flatMap((each) => each.timers?.consume ?? []),
    set: requests.flatMap((each) => each.timers?.set ?? []),
  }
  steps.push(changeTimers(tx, tenant, timers).then(() => null))
  for (const { reservation } of requests) {
    if (!reservation) continue
    const lacking = changeReservation(tx, tenant, reservation)
    steps.push(lacking.then((lack) => lack && { outcome: 'no-capacity', ...lack }))
  }
  const slots = requests.flatMap(({ execSlot }) => execSlot ?? [])
  const execsOf = (action: 'take' | 'release') =>
    slots
      .filter((slot) => slot.action === action)
      .map(({ execId }) => execId)
      .sort()
  if (execsOf('release').length > 0) {
    steps.push(releaseExecSlots(tx, execsOf('release')).then(() => null))
  }
  if (execsOf('take').length > 0) {
    const excess = takeExecSlots(tx, tenant, execsOf('take'))
    steps.push(excess.then((found) => found && { outcome: 'no-capacity', of: 'tenant', excess: found }))
  }

  // All of them, also after a failure: none may be left to reject unheard.
  const results = await Promise.allSettled(steps)
  for (const result of results) {
    if (result.status === 'rejected') throw result.reason
    if (result.value !== null) return result.value
  }
  return null
}

/** The events of a stream stay in their order. */
function inOrder<T>(items: T[], keyOf: (item: T) => string): T[] {
  if (items.length < 2) return items
  return [...items].sort((a, b) => {
    const [left, right] = [keyOf(a), keyOf(b)]
    return left < right ? -1 : left > right ? 1 : 0
  })
}

/** A deadlock's victim has lost a race like any other, and a lock may be free later; the rest is our bug. */
function refusalOf(error: unknown, request: AppendRequest): Refusal {
  const state = sqlState(error)
  const stream = request.writes[0]?.stream
  if ((state === '40P01' || state === '40001') && stream !== undefined) return { outcome: 'conflict', stream }
  throw nameTrouble(error)
}
