/** What `verify` found. Plain JSON: positions and counts are numbers. */

export type ProblemKind =
  /** Its columns do not have the hash that stands beside them. */
  | 'event-altered'
  /** In itself it is consistent, but it is not the event that the trail outside recorded. */
  | 'event-rewritten'
  | 'event-removed'
  /** It is in a stream, but never got a position and never will. */
  | 'event-inserted'
  /** It does not build on its predecessor. */
  | 'chain-broken'
  /** The ledger says something else about this position than the trail outside. */
  | 'ledger-altered'
  | 'ledger-removed'
  /** The file outside is incomplete or contradicts itself. */
  | 'trail-altered'
  /** A checkpoint is not signed by this key, or its root is not that of the entries before it. */
  | 'checkpoint-invalid'
  /** A table that follows from the events (live, claims, reservations, counters) says something else. */
  | 'state-altered'

export interface Problem {
  kind: ProblemKind
  stream: string | null
  version: number | null
  position: number | null
  message: string
}

export interface VerifyReport {
  ok: boolean
  /** Events that were hashed again. */
  events: number
  streams: number
  /** Signed checkpoints in the trail file whose signature and root were checked. */
  checkpoints: number
  /** The first of them, in the order of the log. `problemCount` has all. */
  problems: Problem[]
  problemCount: number
  /** What no checkpoint in the file covers yet: in a running system at most a second's worth. */
  unprotectedTail: { events: number; fromPosition: number | null; oldestAt: string | null }
  /** Lines that a power cut left half-written; their positions were written again. */
  tornLines: number
  notProved: string[]
}

const PROBLEMS_MAX = 1_000

export class Findings {
  readonly problems: Problem[] = []
  count = 0
  /** Streams and versions that were named: what builds on them is not named again. */
  private readonly named = new Set<string>()

  add(kind: ProblemKind, at: Partial<Omit<Problem, 'kind' | 'message'>>, message: string): void {
    this.count += 1
    const { stream = null, version = null, position = null } = at
    if (this.problems.length >= PROBLEMS_MAX) return
    this.problems.push({ kind, stream, version, position, message })
    this.named.add(`${version} ${stream}`)
  }

  has(stream: string, version: number): boolean {
    return this.named.has(`${version} ${stream}`)
  }
}

export const NOT_PROVED = [
  'that everything that happened was recorded, and that what was recorded is true',
  'that an event was appended by Sandtrail: whoever may insert into the database can append, and the sequencer places it',
  'anything about a trail file that its keeper exchanged together with the signing key: hold an older checkpoint elsewhere',
  'the bookkeeping columns term and at of the ledger, stored commands, timers and cursors, and what can be rebuilt (read models)',
]
