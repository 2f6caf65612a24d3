/**
 * What a worker must remember of one sandbox over its own death, in `<dir>/journal.jsonl`: the intent of each exec
 * before the agent hears of it, the ending before anything is killed, and each fact until the control plane has it.
 * `record.json` beside it holds what the sandbox was asked to be and is never changed.
 *
 * The state is what `apply` makes of the entries, in the running process and after a restart alike.
 */

import { join } from 'node:path'
import { cleanFact, type Fact, type MAIN_EXEC } from '#libs/contract'
import type { EndingReport, ExecEndingReport, ExecId, ExecSpec, VolumeId } from '#libs/domain'
import { bootMs } from '../boot-clock.js'
import { AppendLog } from './append-log.js'

/** An exec id, or `main` for the sandbox's main process. */
export type ExecKey = ExecId | typeof MAIN_EXEC

/** The time on the boot clock stands in each entry, in `at`. */
export type JournalEntry = { at: number } /** The agent has connected; the lifetime counts from here. */ & (
  | { kind: 'running' }
  /** The mount slot in which a volume is now; a reload moves it. */
  | { kind: 'slot'; volumeId: VolumeId; slot: string }
  /** Something other than an exec kept the sandbox from being idle. */
  | { kind: 'activity' }
  /** `sent`: the next thing that happens is the request to the agent. Values of env and stdin are never in here. */
  | { kind: 'exec-intent'; execId: ExecKey; spec: ExecSpec; stdinBytes: number; sent: boolean }
  | { kind: 'exec-sent'; execId: ExecKey }
  /** The main process has started, or after a compaction any exec. Else the fact of its start says so. */
  | { kind: 'exec-started'; execId: ExecKey }
  | { kind: 'exec-timed-out'; execId: ExecKey }
  | { kind: 'exec-signal'; execId: ExecKey; signalId: string }
  /** It never started and never will. */
  | { kind: 'exec-cancelled'; execId: ExecKey }
  /** The main process has ended, or after a compaction any exec. Else the fact of its end closes an exec. */
  | { kind: 'exec-closed'; execId: ExecKey; end?: StreamEnds }
  /** Why the sandbox ends; the first one counts. From here on no exec starts. */
  | { kind: 'ending'; cause: EndingReport }
  | { kind: 'fact'; fact: Fact }
  | { kind: 'accepted'; to: number }
  /** The control plane has ended this epoch: it wants none of the facts so far. */
  | { kind: 'fenced' }
  /** The first entry after a compaction. */
  | { kind: 'condensed'; acceptedTo: number; ended: boolean; cleanedUp: boolean; fenced: boolean }
)
type Unstamped<T> = T extends unknown ? Omit<T, 'at'> : never
export type NewEntry = Unstamped<JournalEntry>
export type FactBody = Fact extends infer F
  ? F extends unknown
    ? Omit<F, 'factSeq' | 'observedAtMs'>
    : never
  : never

/** Bytes that each stream had in all. */
export interface StreamEnds {
  stdout: number
  stderr: number
}

export interface ExecMemory {
  spec: ExecSpec | null
  /** How long a stdin is that came with the order. */
  stdinBytes: number
  phase: 'intended' | 'sent' | 'started' | 'closed'
  startedAt: number | null
  timedOut: boolean
  signalIds: Set<string>
  closedAt: number | null
  end: StreamEnds
  /** It was cancelled before it arrived. */
  cancelled: boolean
}

export interface JournalState {
  runningSince: number | null
  lastActivity: number | null
  slots: Map<VolumeId, string>
  execs: Map<ExecKey, ExecMemory>
  cause: EndingReport | null
  /** The terminal fact is written. */
  ended: boolean
  cleanedUp: boolean
  fenced: boolean
  factSeq: number
  acceptedTo: number
  /** Not yet accepted, oldest first. */
  facts: Fact[]
}

/** A late delivery of an order comes within seconds; the agent remembers every exec for its life besides. */
const REMEMBER_CLOSED_MS = 15 * 60_000
/** 4 MiB are some 10,000 execs, read in 50 ms at a restart. */
const COMPACT_BYTES = 4 * 1024 ** 2
/** After a compaction that failed: a full disk must not be tried at each entry. */
const COMPACT_AGAIN_BYTES = 1024 ** 2

export class Journal {
  readonly state: JournalState = emptyState()
  private later: JournalEntry[] = []
  /** Some of `later` must not be forgotten: the disk would not take it. */
  private owed = false
  private compacting = false
  private compactAtBytes = COMPACT_BYTES
  private onFacts: (bodies: readonly FactBody[]) => void = () => {}

  private constructor(private readonly log: AppendLog<JournalEntry>) {}

  static open(dir: string): Journal {
    const { log, entries } = AppendLog.open<JournalEntry>(join(dir, 'journal.jsonl'))
    const journal = new Journal(log)
    for (const entry of entries) apply(journal.state, entry)
    return journal
  }

  /** `listener` is told of new facts; it must only queue. */
  listen(listener: (bodies: readonly FactBody[]) => void): void {
    this.onFacts = listener
  }

  /**
   * Safe from a kill -9 when it returns; safe from a power cut after `sync`.
   * @throws SandtrailError NO_SPACE; then nothing has happened
   */
  append(...entries: NewEntry[]): void {
    const at = bootMs()
    const stamped = entries.map((entry) => ({ at, ...entry }) as JournalEntry)
    this.write(...stamped)
    for (const entry of stamped) apply(this.state, entry)
  }

  /**
   * As `append` for what has happened, whether the disk takes it or not: a full one gets it with the next entry or
   * `sync`, which fails until it has. Never throws, so it may stand in a timer.
   */
  note(...entries: NewEntry[]): void {
    try {
      this.append(...entries)
    } catch {
      for (const entry of entries) this.appendLater(entry)
      this.owed = true
    }
  }

  /** Counts at once and is written with whatever comes next; a crash before that may forget it. */
  appendLater(entry: NewEntry): void {
    const stamped = { at: bootMs(), ...entry } as JournalEntry
    this.later.push(stamped)
    apply(this.state, stamped)
  }

  /**
   * Notes facts with the next numbers, their texts as the control plane takes them. Of a fenced epoch only the end is told: a sandbox that was declared lost may
   * have staged volumes, which are not lost.
   */
  report(...bodies: FactBody[]): void {
    if (this.state.fenced) bodies = bodies.filter(({ kind }) => kind.startsWith('sandbox-'))
    if (bodies.length === 0) return
    const observedAtMs = Date.now()
    const first = this.state.factSeq + 1
    const facts = bodies.map((body, i) => ({ factSeq: first + i, observedAtMs, ...cleanFact(body) }) as Fact)
    this.note(...facts.map((fact): NewEntry => ({ kind: 'fact', fact })))
    this.onFacts(bodies)
  }

  /** Resolves when all that was appended, noted or reported is on the disk. @throws SandtrailError NO_SPACE */
  async sync(): Promise<void> {
    if (this.owed) this.write()
    return this.log.sync()
  }

  close(): Promise<void> {
    return this.log.close()
  }

  private write(...entries: JournalEntry[]): void {
    this.log.append(...this.later, ...entries)
    this.onWritten()
    if (this.log.bytes > this.compactAtBytes) void this.compact()
  }

  private onWritten(): void {
    this.later = []
    this.owed = false
  }

  private async compact(): Promise<void> {
    if (this.compacting) return
    this.compacting = true
    try {
      await this.log.rewrite(
        () => {
          forgetClosed(this.state, bootMs() - REMEMBER_CLOSED_MS)
          return condensed(this.state)
        },
        // What `later` did to the state is in what was written now.
        () => this.onWritten(),
      )
      this.compactAtBytes = Math.max(COMPACT_BYTES, this.log.bytes * 2)
    } catch {
      this.compactAtBytes = this.log.bytes + COMPACT_AGAIN_BYTES
    } finally {
      this.compacting = false
    }
  }
}

function emptyState(): JournalState {
  return {
    runningSince: null,
    lastActivity: null,
    slots: new Map(),
    execs: new Map(),
    cause: null,
    ended: false,
    cleanedUp: false,
    fenced: false,
    factSeq: 0,
    acceptedTo: 0,
    facts: [],
  }
}

/** Folds one entry into the state. */
export function apply(state: JournalState, entry: JournalEntry): void {
  switch (entry.kind) {
    case 'running':
      state.runningSince = entry.at
      state.lastActivity = entry.at
      return
    case 'slot':
      state.slots.set(entry.volumeId, entry.slot)
      return
    case 'activity':
      state.lastActivity = entry.at
      return
    case 'ending':
      state.cause ??= entry.cause
      return
    case 'fact':
      applyFact(state, entry.fact, entry.at)
      return
    case 'accepted':
      state.acceptedTo = Math.max(state.acceptedTo, entry.to)
      state.facts = state.facts.filter((fact) => fact.factSeq > entry.to)
      return
    case 'fenced':
      state.fenced = true
      state.acceptedTo = state.factSeq
      state.facts = []
      return
    case 'condensed':
      state.acceptedTo = entry.acceptedTo
      state.factSeq = entry.acceptedTo
      state.ended = entry.ended
      state.cleanedUp = entry.cleanedUp
      state.fenced = entry.fenced
      return
    default:
      applyExec(state, entry)
  }
}

function applyFact(state: JournalState, fact: Fact, at: number): void {
  state.factSeq = fact.factSeq
  if (fact.kind === 'exec-ended') {
    applyExec(state, { at, kind: 'exec-closed', execId: fact.execId, end: endsOf(fact.ending) })
  }
  if (fact.kind === 'exec-started') applyExec(state, { at, kind: 'exec-started', execId: fact.execId })
  if (fact.kind === 'sandbox-ended') state.ended = true
  if (fact.kind === 'sandbox-cleaned-up') state.cleanedUp = true
  state.facts.push(fact)
}

function endsOf(ending: ExecEndingReport): StreamEnds {
  if (ending.kind !== 'exited') return { stdout: 0, stderr: 0 }
  return { stdout: ending.stdout.bytes, stderr: ending.stderr.bytes }
}

function applyExec(state: JournalState, entry: Extract<JournalEntry, { execId: ExecKey }>): void {
  const exec = state.execs.get(entry.execId) ?? newMemory()
  state.execs.set(entry.execId, exec)
  switch (entry.kind) {
    case 'exec-intent':
      exec.spec = entry.spec
      exec.stdinBytes = entry.stdinBytes
      exec.phase = entry.sent ? 'sent' : 'intended'
      return
    case 'exec-sent':
      exec.phase = 'sent'
      return
    case 'exec-started':
      exec.phase = 'started'
      exec.startedAt = entry.at
      return
    case 'exec-timed-out':
      exec.timedOut = true
      return
    case 'exec-signal':
      exec.signalIds.add(entry.signalId)
      return
    case 'exec-cancelled':
    case 'exec-closed':
      exec.cancelled = entry.kind === 'exec-cancelled'
      if (entry.kind === 'exec-closed' && entry.end !== undefined) exec.end = entry.end
      exec.phase = 'closed'
      exec.closedAt = entry.at
      exec.spec = null
      state.lastActivity = entry.at
      return
  }
}

function newMemory(): ExecMemory {
  return {
    spec: null,
    stdinBytes: 0,
    phase: 'intended',
    startedAt: null,
    timedOut: false,
    signalIds: new Set(),
    closedAt: null,
    end: { stdout: 0, stderr: 0 },
    cancelled: false,
  }
}

function forgetClosed(state: JournalState, before: number): void {
  for (const [execId, exec] of state.execs) {
    if (exec.closedAt !== null && exec.closedAt < before) state.execs.delete(execId)
  }
}

/** The shortest list of entries that folds to the same state. */
export function condensed(state: JournalState): JournalEntry[] {
  const at = state.lastActivity ?? 0
  const { acceptedTo, ended, cleanedUp, fenced } = state
  const entries: JournalEntry[] = [{ at, kind: 'condensed', acceptedTo, ended, cleanedUp, fenced }]
  if (state.runningSince !== null) entries.push({ at: state.runningSince, kind: 'running' })
  for (const [volumeId, slot] of state.slots) entries.push({ at, kind: 'slot', volumeId, slot })
  for (const [execId, exec] of state.execs) entries.push(...condensedExec(execId, exec))
  if (state.lastActivity !== null) entries.push({ at: state.lastActivity, kind: 'activity' })
  if (state.cause !== null) entries.push({ at, kind: 'ending', cause: state.cause })
  for (const fact of state.facts) entries.push({ at, kind: 'fact', fact })
  return entries
}

function condensedExec(execId: ExecKey, exec: ExecMemory): JournalEntry[] {
  if (exec.closedAt !== null) {
    const at = exec.closedAt
    return [
      exec.cancelled
        ? { at, kind: 'exec-cancelled', execId }
        : { at, kind: 'exec-closed', execId, end: exec.end },
    ]
  }
  const entries: JournalEntry[] = []
  if (exec.spec !== null) {
    const { spec, stdinBytes } = exec
    entries.push({ at: 0, kind: 'exec-intent', execId, spec, stdinBytes, sent: exec.phase !== 'intended' })
  }
  if (exec.startedAt !== null) entries.push({ at: exec.startedAt, kind: 'exec-started', execId })
  if (exec.timedOut) entries.push({ at: 0, kind: 'exec-timed-out', execId })
  for (const signalId of exec.signalIds) entries.push({ at: 0, kind: 'exec-signal', execId, signalId })
  return entries
}
