/**
 * The checker: reads the ledger, the client's history, the broker, the output spools and the host, and names everything
 * that breaks an invariant of docs/reliability.md. It changes nothing, and shares no code with what it judges but the
 * domain's state machine and the event store's `verify`.
 */

import type { Database, VerifyOptions } from '#libs/event-store'
import type { Messaging } from '#libs/messaging'
import { judgeBroker, readBroker } from './broker.js'
import { judgeCommands } from './commands.js'
import type { Finding } from './finding.js'
import type { HistoryEntry } from './history.js'
import { judgeHost, judgeInventory } from './host.js'
import { judgePositions, judgeTrail } from './ledger.js'
import { type Log, readLog } from './log.js'
import { judgeOpenExecs, judgeProjections } from './projections.js'
import { judgePromises } from './promises.js'
import { judgeSpools } from './spool.js'
import { type JudgedStreams, judgeOpen, judgeStreams } from './streams.js'

export interface Evidence {
  /** Of a superuser, or whoever may read every table and write the read models in a transaction that is rolled back. */
  db: Database
  history: readonly HistoryEntry[]
  trail?: VerifyOptions
  /** Of the platform's user. */
  messaging?: Messaging
  /** Of the workers whose outputs are still kept. */
  spools?: readonly string[]
  /** As `takeInventory` gives it; `before`: of the same system without any sandbox. */
  host?: { before: readonly string[]; now: readonly string[] }
  /** Every command has been given the time to end: whatever is open now is stuck. */
  drained: boolean
}

export interface Report {
  verdict: 'ok' | 'not ok'
  findings: Finding[]
  /** How much there was to judge: an `ok` about nothing says nothing. */
  events: number
  promises: number
  published: number
}

export async function check(evidence: Evidence): Promise<Report> {
  const { db, history, trail, messaging, spools, host, drained } = evidence
  const log = await readLog(db)
  const streams = judgeStreams(log.events)
  const broker = messaging && (await readBroker(messaging))
  const findings = [
    ...streams.findings,
    ...judgeOpen(streams, { nowMs: Date.now(), drained }),
    ...judgeCommands(log),
    ...judgePositions(log, drained),
    ...judgePromises(history, log),
    ...(broker ? judgeBroker(broker, log) : []),
    ...(await judgeProjections(db)),
    ...(await judgeOpenExecs(db, streams)),
    ...(trail ? await judgeTrail(trail) : []),
    ...(spools ? judgeSpools(log.events, spools) : []),
    ...(host ? judgeHost(host.now, aliveIn(log, streams, drained)) : []),
    ...(host && drained ? judgeInventory(host.before, host.now) : []),
  ]
  return {
    verdict: findings.length === 0 ? 'ok' : 'not ok',
    findings,
    events: log.events.length,
    promises: history.filter(({ kind }) => kind === 'accepted').length,
    published: broker?.published.length ?? 0,
  }
}

/** With everything drained, the clean-up of what has ended has had its time too. */
function aliveIn({ events }: Log, { states }: JudgedStreams, drained: boolean): Set<string> {
  const cleaned = new Set(
    events.filter(({ type }) => type === 'SandboxCleanedUp').map(({ stream }) => stream),
  )
  const isAlive = (stream: string, status: string) => status !== 'ended' || (!drained && !cleaned.has(stream))
  return new Set(
    [...states].filter(([stream, { status }]) => isAlive(stream, status)).map(([stream]) => stream),
  )
}
