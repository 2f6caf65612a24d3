/**
 * Judges every stream by the domain's own state machine: versions without a gap, legal transitions only, one terminal
 * event, and no fact of a worker that did not hold the sandbox (I-1, I-4, I-5).
 */

import {
  type Aggregate,
  APP_TRANSITIONS,
  appAggregate,
  EXEC_TRANSITIONS,
  execAggregate,
  IMAGE_TRANSITIONS,
  imageAggregate,
  nextStatus,
  type PastEvent,
  SANDBOX_TRANSITIONS,
  type Sandbox,
  SNAPSHOT_TRANSITIONS,
  sandboxAggregate,
  snapshotAggregate,
  TENANT_TRANSITIONS,
  TOKEN_TRANSITIONS,
  type Transition,
  tenantAggregate,
  tokenAggregate,
  VOLUME_TRANSITIONS,
  type Volume,
  volumeAggregate,
  WORKER_TRANSITIONS,
  workerAggregate,
} from '#libs/domain'
import { type Finding, finding } from './finding.js'
import type { LoggedEvent } from './log.js'

interface Lifecycle {
  aggregate: Aggregate<{ status: string }>
  transitions: readonly Transition<string>[]
  /** Where nothing more is waited for. */
  rests: readonly string[]
}

const LIFECYCLES: Readonly<Record<string, Lifecycle>> = {
  sb: lifecycle(sandboxAggregate, SANDBOX_TRANSITIONS, ['ended']),
  ex: lifecycle(execAggregate, EXEC_TRANSITIONS, ['ended']),
  im: lifecycle(imageAggregate, IMAGE_TRANSITIONS, ['ready', 'failed', 'removed']),
  sn: lifecycle(snapshotAggregate, SNAPSHOT_TRANSITIONS, ['completed', 'failed']),
  wk: lifecycle(workerAggregate, WORKER_TRANSITIONS, ['active', 'cordoned', 'draining', 'drained']),
  te: lifecycle(tenantAggregate, TENANT_TRANSITIONS, ['active', 'suspended', 'removed']),
  to: lifecycle(tokenAggregate, TOKEN_TRANSITIONS, ['active', 'revoked']),
  vo: lifecycle(volumeAggregate, VOLUME_TRANSITIONS, ['ready', 'removed']),
  ap: lifecycle(appAggregate, APP_TRANSITIONS, ['running', 'stopped']),
}

function lifecycle<State extends { status: string }>(
  aggregate: Aggregate<State>,
  transitions: readonly Transition<string>[],
  rests: string[],
): Lifecycle {
  return { aggregate: aggregate as unknown as Lifecycle['aggregate'], transitions, rests }
}

export interface JudgedStreams {
  findings: Finding[]
  /** The state that each stream folds to. */
  states: Map<string, { status: string }>
  /** Streams that have not come to their end, with the event that they stand at. */
  open: Map<string, LoggedEvent>
}

export function judgeStreams(events: readonly LoggedEvent[]): JudgedStreams {
  const findings: Finding[] = []
  const states = new Map<string, { status: string }>()
  const open = new Map<string, LoggedEvent>()
  for (const [stream, own] of byStream(events)) {
    const kind = LIFECYCLES[stream.slice(0, 2)]
    findings.push(...judgeVersions(stream, own))
    if (kind === undefined || stream.startsWith('command:')) continue
    const { state, illegal } = judgeTransitions(kind, own)
    findings.push(...illegal)
    if (stream.startsWith('vo-')) findings.push(...judgeVolumeVersions(own))
    states.set(stream, state)
    const last = own.at(-1)
    const pending =
      'pending' in state && state.status === 'ready' && (state as Volume & { pending: [] }).pending.length > 0
    if (last && (pending || !kind.rests.includes(state.status))) open.set(stream, last)
  }
  findings.push(...judgeEpochs(events))
  return { findings, states, open }
}

function byStream(events: readonly LoggedEvent[]): Map<string, LoggedEvent[]> {
  const streams = Map.groupBy(events, ({ stream }) => stream)
  for (const own of streams.values()) own.sort((a, b) => a.version - b.version)
  return streams
}

function judgeVersions(stream: string, own: readonly LoggedEvent[]): Finding[] {
  const findings: Finding[] = []
  let next = 1
  for (const { version, position } of own) {
    for (; next < version; next++) {
      findings.push(
        finding('lost', 'I-4', { stream, version: next }, 'the stream has no event of this version'),
      )
    }
    if (version < next)
      findings.push(
        finding('duplicated', 'I-4', { stream, version, position }, 'a second event of this version'),
      )
    next = version + 1
  }
  return findings
}

function judgeTransitions({ aggregate, transitions, rests }: Lifecycle, own: readonly LoggedEvent[]) {
  const illegal: Finding[] = []
  let state = aggregate.initial
  for (const event of own) {
    const { stream, version, position, type } = event
    const to = nextStatus(transitions, state.status, type)
    const before = state.status
    state = aggregate.evolve(state, toPast(event))
    if (to === null) {
      // What is ended and ends once more is the mistake that at-most-once is about, so it has a verdict of its own.
      const endsAgain =
        rests.includes(before) &&
        transitions.some(
          (step) => step.event === type && rests.includes(step.to) && !rests.includes(step.from),
        )
      const at = { stream, version, position }
      illegal.push(
        endsAgain
          ? finding('duplicated', 'I-1', at, `${type} ends what was ${before} already`)
          : finding('phantom', 'I-4', at, `${type} cannot happen to what is ${before}`),
      )
    } else if (to !== state.status) {
      const message = `${type} leads to ${to} by the table, evolve makes it ${state.status}`
      illegal.push(finding('phantom', 'I-4', { stream, version, position }, message))
    }
  }
  return { state, illegal }
}

function toPast({ type, typeVersion, data, version, at }: LoggedEvent): PastEvent {
  return { type, typeVersion, data, version, atMs: at.getTime() }
}

/** A volume's own versions: one after the other, each commit once. */
function judgeVolumeVersions(own: readonly LoggedEvent[]): Finding[] {
  const findings: Finding[] = []
  const commits = new Set<string>()
  let last = 0
  for (const { stream, version, position, type, data } of own) {
    if (type !== 'VolumeCommitted') continue
    const at = { stream, version, position }
    const { version: of, commitId } = data as { version: number; commitId: string }
    if (of !== last + 1)
      findings.push(
        finding(of > last ? 'lost' : 'duplicated', 'I-13', at, `version ${of} of the volume follows ${last}`),
      )
    if (commits.has(commitId))
      findings.push(finding('duplicated', 'I-13', at, `commit ${commitId} made a second version`))
    commits.add(commitId)
    last = Math.max(last, of)
  }
  return findings
}

/** Whatever a worker told counts only when the sandbox was placed on it, in that epoch, at that time. */
function judgeEpochs(events: readonly LoggedEvent[]): Finding[] {
  const findings: Finding[] = []
  const placed = new Map<string, { workerId: string; epoch: number }>()
  const sandboxOf = new Map<string, string>()
  for (const event of events) {
    const { stream, version, position, type, data, meta } = event
    const at = { stream, version, position }
    if (type === 'ExecRequested') sandboxOf.set(stream, (data.spec as { sandboxId: string }).sandboxId)
    if (type === 'SandboxPlaced') {
      const { workerId, epoch } = data as { workerId: string; epoch: number }
      if (epoch <= (placed.get(stream)?.epoch ?? 0)) {
        findings.push(finding('phantom', 'I-5', at, `placed in epoch ${epoch}, which is over`))
      }
      placed.set(stream, { workerId, epoch })
    }
    if (meta.workerId === null) continue
    const holder = placed.get(sandboxOf.get(stream) ?? stream)
    if (holder?.workerId === meta.workerId && holder.epoch === meta.epoch) continue
    const told = `${meta.workerId} in epoch ${meta.epoch} told it, the sandbox is ${holder ? `on ${holder.workerId} in epoch ${holder.epoch}` : 'nowhere'}`
    findings.push(finding('phantom', 'I-5', at, told))
  }
  return findings
}

const MARGIN_MS = 60_000
/** The longest that a step without a deadline of its own may take: an import (IMAGE_IMPORT_DEADLINE_MS). */
const STEP_MS_MAX = 900_000

/** What is open beyond its own deadline and 60 s; with `drained`, whatever is open (I-1). */
export function judgeOpen(
  { open, states }: JudgedStreams,
  { nowMs, drained }: { nowMs: number; drained: boolean },
): Finding[] {
  return [...open].flatMap(([stream, { version, position, type, at, data }]) => {
    const state = states.get(stream)!
    const overdueAt = at.getTime() + deadlineOf(stream, state, data) + MARGIN_MS
    if (!drained && nowMs < overdueAt) return []
    const since = `is ${state.status} since its ${type} at ${at.toISOString()}`
    return [finding('stuck', 'I-1', { stream, version, position }, since)]
  })
}

function deadlineOf(stream: string, state: { status: string }, data: LoggedEvent['data']): number {
  if (stream.startsWith('sb-') && state.status === 'running')
    return (state as Extract<Sandbox, { status: 'running' }>).spec.timeoutMs
  if (stream.startsWith('ex-') && state.status === 'running') return Number.POSITIVE_INFINITY // Ends with its sandbox.
  for (const key of ['startDeadlineMs', 'deadlineMs', 'startByMs'])
    if (typeof data[key] === 'number') return data[key]
  return STEP_MS_MAX
}
