/**
 * Facts of a worker become events. They come at least once and in order; whatever the log has already is skipped by
 * the state machine itself, whatever belongs to another epoch or another worker's sandbox is fenced.
 */

import { record } from '#libs/command-handling'
import type { Fact, Report, ReportReply } from '#libs/contract'
import {
  decideExec,
  decideSandbox,
  type Exec,
  type ExecEvent,
  type ExecId,
  evolveExec,
  execAggregate,
  Rejected,
  type SandboxCommand,
  SandtrailError,
  sandboxAggregate,
  type WorkerId,
} from '#libs/domain'
import {
  type AppendRequest,
  append,
  commandHash,
  derivedCommandId,
  type JsonObject,
  load,
} from '#libs/event-store'
import { failpoint } from '#libs/failpoint'
import type { Scheduler } from './context.js'
import { nameClaims } from './names.js'

const ATTEMPTS_MAX = 3
const DAY_MS = 24 * 3_600_000

type ExecFact = Extract<Fact, { execId: ExecId }>
type SandboxFact = Exclude<Fact, ExecFact>
type Source = Omit<Report, 'facts'> & { workerId: WorkerId }

/** Appends as far as it gets; the worker sends the rest again. */
export async function handleReport(
  scheduler: Scheduler,
  workerId: WorkerId,
  report: Report,
): Promise<ReportReply> {
  const { facts, ...from } = report
  const source = { ...from, workerId }
  let acceptedTo = facts[0]!.factSeq - 1
  for (const group of groupByStream(facts)) {
    const accepted = isOfExec(group)
      ? await recordExecFacts(scheduler, source, group)
      : await recordSandboxFact(scheduler, source, group[0] as SandboxFact)
    if (!accepted) return { ok: true, acceptedTo, fenced: true }
    failpoint('report-recorded')
    acceptedTo = group.at(-1)!.factSeq
  }
  return { ok: true, acceptedTo, fenced: false }
}

/** Neighbouring facts of one exec go into one append: its start and its exit often come together. */
function groupByStream(facts: Fact[]): Fact[][] {
  const groups: Fact[][] = []
  for (const fact of facts) {
    const last = groups.at(-1)
    const [first] = last ?? []
    const same = last && first && 'execId' in first && 'execId' in fact && first.execId === fact.execId
    if (same) last.push(fact)
    else groups.push([fact])
  }
  return groups
}

function isOfExec(group: Fact[]): group is ExecFact[] {
  return 'execId' in group[0]!
}

/** False: fenced. */
async function recordSandboxFact(scheduler: Scheduler, source: Source, fact: SandboxFact): Promise<boolean> {
  const { tenant, sandboxId, workerId, epoch } = source
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
    const { state, version, hash } = await load(scheduler.db, sandboxAggregate, sandboxId, { tenant })
    if (state.status === 'absent' || state.status === 'created' || state.workerId !== workerId) return false
    const events = unlessFenced(() => decideSandbox(state, toCommand(source, fact)))
    if (events === null) return false
    if (events.length === 0) return true

    const guard = { sandboxId, workerId, epoch }
    const request = factAppend(source, fact, [
      { stream: sandboxId, expectedVersion: version, prevHash: hash, events: record(events) },
    ])
    if (fact.kind === 'sandbox-started') {
      request.live = { action: 'require', ...guard, open: false }
      request.timers = { cancel: [`${sandboxId}:start`] }
    }
    if (fact.kind === 'sandbox-ended' && state.status !== 'ended') {
      request.live = { action: 'close', ...guard }
      request.reservation = { action: 'release', sandboxId }
      request.timers = { cancel: [`${sandboxId}:start`, `${sandboxId}:stop`] }
      request.claims = { release: nameClaims(state.spec, sandboxId) }
    }
    const result = await append(scheduler.db, request, scheduler.onCommitted)
    if (result.outcome === 'appended' || result.outcome === 'duplicate') return true
    if (result.outcome === 'fenced' && result.reason === 'epoch') return false
  }
  throw new SandtrailError('STREAM_BUSY', `${sandboxId} kept changing`)
}

function toCommand({ workerId, epoch }: Source, fact: SandboxFact): SandboxCommand {
  switch (fact.kind) {
    case 'sandbox-started':
      return { type: 'ReportStarted', workerId, epoch, volumes: fact.volumes }
    case 'sandbox-ended':
      return { type: 'ReportEnded', workerId, epoch, ending: fact.ending, staged: fact.staged }
    case 'sandbox-cleaned-up':
      return { type: 'ReportCleanedUp', workerId, epoch, leftovers: fact.leftovers }
  }
}

/** False: fenced. */
async function recordExecFacts(scheduler: Scheduler, source: Source, facts: ExecFact[]): Promise<boolean> {
  const { tenant, sandboxId, workerId, epoch } = source
  const { execId } = facts[0]!
  let live: AppendRequest['live'] = { action: 'require', sandboxId, workerId, epoch, open: false }
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
    const loaded = await load(scheduler.db, execAggregate, execId, { tenant })
    if (loaded.state.status === 'absent' || loaded.state.spec.sandboxId !== sandboxId) return false
    const decided = unlessFenced(() => decideExecFacts(loaded.state, epoch, facts))
    if (decided === null) return false
    const { events, state } = decided
    if (events.length === 0) return true

    const request = factAppend(source, facts.at(-1)!, [
      {
        stream: execId,
        expectedVersion: loaded.version,
        prevHash: loaded.hash,
        events: record(events),
      },
    ])
    if (state.status === 'ended') request.execSlot = { action: 'release', execId }
    const result = await append(
      scheduler.db,
      { ...request, ...(live && { live }), timers: { cancel: [`${execId}:start`] } },
      scheduler.onCommitted,
    )
    if (result.outcome === 'appended' || result.outcome === 'duplicate') {
      if (state.status === 'ended') scheduler.waiters.ended(execId, state)
      return true
    }
    if (result.outcome !== 'fenced') continue
    if (!(await wasItsLastEpoch(scheduler, source))) return false
    live = undefined
  }
  throw new SandtrailError('STREAM_BUSY', `${execId} kept changing`)
}

function decideExecFacts(
  start: Exec,
  epoch: number,
  facts: ExecFact[],
): { events: ExecEvent[]; state: Exec } {
  let state = start
  const events: ExecEvent[] = []
  for (const fact of facts) {
    const decided =
      fact.kind === 'exec-started'
        ? decideExec(state, { type: 'ReportExecStarted', epoch, pid: fact.pid })
        : decideExec(state, { type: 'ReportExecEnded', epoch, ending: fact.ending })
    for (const event of decided) {
      state = evolveExec(state, { ...event, data: event.data as JsonObject, version: 0, atMs: 0 })
      events.push(event)
    }
  }
  return { events, state }
}

/** A late exit of a sandbox that has ended on this very worker is still the truth about that exec. */
async function wasItsLastEpoch(
  { db }: Scheduler,
  { tenant, sandboxId, workerId, epoch }: Source,
): Promise<boolean> {
  const { state } = await load(db, sandboxAggregate, sandboxId, { tenant })
  return state.status === 'ended' && state.workerId === workerId && state.epoch === epoch
}

function factAppend(
  { tenant, sandboxId, workerId, epoch }: Source,
  fact: Fact,
  writes: AppendRequest['writes'],
): AppendRequest {
  // Each of these happens once in an epoch. Not by the fact's number: a worker that lost its state counts from 1 again.
  const id = derivedCommandId('fact', sandboxId, epoch, fact.kind, 'execId' in fact ? fact.execId : '')
  const at = new Date()
  return {
    tenant,
    command: {
      id,
      verb: 'worker.report',
      hash: commandHash('worker.report', { id }),
      expiresAt: new Date(at.getTime() + DAY_MS),
    },
    outcome: { ok: true },
    meta: {
      actor: `worker:${workerId}`,
      causationId: null,
      correlationId: sandboxId,
      traceparent: null,
      workerId,
      epoch,
    },
    at,
    writes,
  }
}

/** Null when the rules fence it; any other refusal of a fact would be a bug of ours or of the worker. */
function unlessFenced<Decision>(decide: () => Decision): Decision | null {
  try {
    return decide()
  } catch (error) {
    if (
      error instanceof Rejected &&
      ['STALE_EPOCH', 'SANDBOX_NOT_FOUND', 'EXEC_NOT_FOUND'].includes(error.code)
    )
      return null
    throw error
  }
}
