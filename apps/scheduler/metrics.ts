/**
 * What the scheduler tells of the system as a whole. The leader of the sequencer alone does, so that a sum over all
 * schedulers counts nothing twice.
 */

import { countLive, listWorkers, readFollowerLags, readLedgerLag, type Sequencer } from '#libs/event-store'
import { readBacklog } from '#libs/messaging'
import type { Operations, Sample } from '#libs/service'
import type { Scheduler } from './context.js'

/** The leader writes its heartbeat every second, and another takes over after 3 s. */
const LEADERLESS_MS = 10_000

export function watchScheduler(
  operations: Operations,
  { db, messaging }: Scheduler,
  sequencer: Pick<Sequencer, 'isLeader'>,
): void {
  operations.check('sequencer', async () => {
    if (sequencer.isLeader) return 'leads'
    const { leaderHeartbeatAgeMs: age } = await readLedgerLag(db)
    if (age === null || age > LEADERLESS_MS) throw new Error('nobody leads: no event gets a position')
    return 'follows'
  })
  operations.gauge('sandtrail_sequencer_leader', '1 in the scheduler that leads, else 0.', [], () => [
    { value: sequencer.isLeader ? 1 : 0 },
  ])

  const ofLeader = <L extends string>(
    name: string,
    help: string,
    labels: readonly L[],
    read: () => Promise<Sample<L>[]>,
  ) => operations.gauge(name, help, labels, () => (sequencer.isLeader ? read() : []))

  ofLeader('sandtrail_sandboxes', 'Sandboxes that live, by state.', ['state'], async () =>
    (await countLive(db)).map(({ state, count }) => ({ labels: { state }, value: count })),
  )
  ofLeader('sandtrail_workers', 'Workers by state.', ['state'], async () => {
    const workers = Map.groupBy(await listWorkers(db), ({ state }) => state)
    return [...workers].map(([state, list]) => ({ labels: { state }, value: list.length }))
  })
  ofLeader('sandtrail_sequencer_lag_events', 'Committed events without a position.', [], async () => [
    { value: (await readLedgerLag(db)).unplacedEvents },
  ])
  ofLeader('sandtrail_publish_lag_events', 'Placed events that EVENTS does not have.', [], async () => [
    { value: (await readLedgerLag(db)).unpublishedEvents },
  ])
  ofLeader(
    'sandtrail_follower_lag_events',
    'Positions that a follower of the ledger has before it.',
    ['follower'],
    async () =>
      (await readFollowerLags(db)).map(({ follower, events }) => ({ labels: { follower }, value: events })),
  )
  ofLeader(
    'sandtrail_consumer_pending_messages',
    'Queued commands that wait for a service.',
    ['consumer'],
    async () =>
      (await readBacklog(messaging)).consumers.map(({ durable, pending, unsettled }) => ({
        labels: { consumer: durable },
        value: pending + unsettled,
      })),
  )
  ofLeader(
    'sandtrail_dead_letters',
    'Messages in DEAD_LETTERS: see `sandtrail dead-letter ls`.',
    [],
    async () => [{ value: (await readBacklog(messaging)).deadLetters }],
  )
}
