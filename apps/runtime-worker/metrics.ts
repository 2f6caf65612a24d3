/** What the worker tells of its host: what lives on it, what waits to be told, what room is left. */

import { durations, type Operations } from '#libs/service'
import type { HeartbeatLoop } from './heartbeat.js'
import type { Runtime } from './runtime-choice.js'
import type { Sandboxes } from './sandboxes/registry.js'
import type { Spool } from './spool/spool.js'

export const createStepSeconds = durations(
  'sandtrail_worker_create_step_seconds',
  'Steps of the making of a sandbox; some run side by side. `total` is all of it.',
  ['step'],
)
export const execStageSeconds = durations(
  'sandtrail_worker_exec_stage_seconds',
  'Stages of an exec: `intent` until its record is on the disk, `start` until the agent answered, `total` until its end.',
  ['stage'],
)

/** A walk over the spool's files; no scrape repeats it sooner. */
const SPOOL_MS = 60_000
/** Ten heartbeats. */
const UNHEARD_MS = 20_000

export function watchHost(
  operations: Operations,
  { disk }: Runtime,
  sandboxes: Sandboxes,
  spool: Spool,
): void {
  operations.gauge('sandtrail_worker_sandboxes', 'Sandboxes with a record here, by state.', ['state'], () => {
    const states = Map.groupBy(sandboxes.all(), ({ state }) => state)
    return [...states].map(([state, list]) => ({ labels: { state }, value: list.length }))
  })
  operations.gauge(
    'sandtrail_worker_outbox_facts',
    'Facts that the control plane has not taken yet.',
    [],
    () => [{ value: sandboxes.all().reduce((sum, { journal }) => sum + journal.state.facts.length, 0) }],
  )
  operations.gauge('sandtrail_worker_pool_bytes', "The pool's filesystem.", ['state'], async () => {
    const { totalBytes, freeBytes } = await disk()
    return [
      { labels: { state: 'free' }, value: freeBytes },
      { labels: { state: 'used' }, value: totalBytes - freeBytes },
    ]
  })
  let spoolSize: { bytes: Promise<number>; atMs: number } | null = null
  operations.gauge(
    'sandtrail_worker_spool_bytes',
    'Output that is kept; at most a minute old.',
    [],
    async () => {
      const isOld = spoolSize === null || performance.now() - spoolSize.atMs > SPOOL_MS
      if (isOld) spoolSize = { bytes: spool.sizeBytes(), atMs: performance.now() }
      return [{ value: await spoolSize!.bytes }]
    },
  )
}

export function watchControlPlane(operations: Operations, heartbeat: HeartbeatLoop): void {
  operations.check('registered', async () => {
    const age = heartbeat.answeredAgeMs
    if (age === null) throw new Error('no scheduler has answered a heartbeat yet')
    if (age > UNHEARD_MS) throw new Error(`no scheduler has answered for ${Math.round(age / 1000)} s`)
    return 'a scheduler answers the heartbeats'
  })
  operations.gauge(
    'sandtrail_worker_heartbeat_age_seconds',
    'Since the last heartbeat that a scheduler answered.',
    [],
    () => (heartbeat.answeredAgeMs === null ? [] : [{ value: heartbeat.answeredAgeMs / 1000 }]),
  )
}
