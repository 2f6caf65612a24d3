/**
 * Checks the whole log without any service: the database, the trail file outside it, and a public key.
 *
 * One pass over both in the order of positions: each event is hashed again and compared with what the file recorded,
 * each checkpoint's signature and root with the entries before it. Then the events that have no position yet, and the
 * tables that follow from the events. Memory does not grow with the log.
 */

import { statSync } from 'node:fs'
import pg from 'pg'
import { Rejected, SandtrailError } from '#libs/domain'
import { tlsTrouble } from '#libs/tls'
import type { Queryable } from '../database.js'
import { openCheckpoint } from '../ledger/checkpoint-note.js'
import { MerkleFrontier } from '../ledger/merkle.js'
import { entryLine, type TrailEntry } from '../ledger/trail-file.js'
import { checkEvent } from './check-event.js'
import { checkSequencer, checkStoredCheckpoints } from './ledger-state.js'
import {
  findEvent,
  findLedgerEntry,
  type LedgerRow,
  ledgerRows,
  type RawEvent,
  unplacedEvents,
} from './log-rows.js'
import { Replay } from './replay.js'
import { Findings, NOT_PROVED, type VerifyReport } from './report.js'
import { trailLines } from './trail-lines.js'

export interface VerifyOptions {
  /** Of any role that may read: an auditor's will do. */
  databaseUrl: string
  trailFile: string
  /** C2SP form: `origin+id+key`. */
  publicKey: string
  /** Only this stream's events; the file and its checkpoints are still read as a whole. */
  stream?: string
}

/**
 * Throws NOT_FOUND without a trail file and for a stream that was never heard of, UNAVAILABLE without the database, INVALID_ARGUMENT for a public key of another
 * form; everything that is wrong with the log is in the report.
 */
export async function verifyTrail(options: VerifyOptions): Promise<VerifyReport> {
  // Before the snapshot: whatever the file holds by now, the ledger that is read later holds too.
  const trailBytes = sizeOf(options.trailFile)
  const client = new pg.Client({
    connectionString: options.databaseUrl,
    application_name: 'verify',
    // Compiling for 16 partitions takes seconds, and nothing here is heavy on expressions.
    options: '-c jit=off',
  })
  client.on('error', () => {}) // The query in flight hears of it.
  try {
    await client.connect()
  } catch (cause) {
    throw (
      tlsTrouble(cause, 'the database') ??
      new SandtrailError('UNAVAILABLE', 'the database cannot be reached', { cause })
    )
  }
  try {
    await client.query('begin isolation level repeatable read read only')
    await client.query('set local statement_timeout = 0')
    return await new Verification(client, options, trailBytes).run()
  } finally {
    await client.end()
  }
}

function sizeOf(trailFile: string): number {
  try {
    return statSync(trailFile).size
  } catch (cause) {
    throw new SandtrailError('NOT_FOUND', `there is no trail file at ${trailFile}`, {
      hint: 'it is on the host of the scheduler: copy it, or name it with its path',
      cause,
    })
  }
}

const NO_TAIL = { events: 0, fromPosition: null, oldestAt: null }

class Verification {
  private readonly findings = new Findings()
  private readonly replay = new Replay()
  private readonly rows: PeekingRows
  /** Over the file's lines. */
  private readonly tree = new MerkleFrontier()
  private position = 0
  /** False once an entry is missing: no root can be computed from there on. */
  private isTreeWhole = true
  private events = 0
  private streams = 0
  private checkpoints = 0
  private tornLines = 0
  /** Since the last good checkpoint. */
  private tail: { events: number; fromPosition: number | null; oldestAt: Date | null } = NO_TAIL

  constructor(
    private readonly db: Queryable,
    private readonly options: VerifyOptions,
    private readonly trailBytes: number,
  ) {
    this.rows = new PeekingRows(ledgerRows(db, options.stream ?? null))
  }

  async run(): Promise<VerifyReport> {
    // Fails before the long work when the key has another form.
    openCheckpoint('', this.options.publicKey)
    for await (const line of trailLines(this.options.trailFile, this.trailBytes)) {
      if ('entry' in line) await this.checkEntry(line.entry, line.text)
      else if ('checkpoint' in line) this.checkCheckpoint(line.checkpoint)
      else this.tornLines += 1
    }
    for (let row = await this.rows.next(); row !== null; row = await this.rows.next()) this.checkTailRow(row)
    await this.checkUnplaced()
    this.refuseUnknownStream()
    if (this.options.stream === undefined) {
      await checkStoredCheckpoints(this.db, this.options.publicKey, this.findings)
      await checkSequencer(this.db, this.findings)
      await this.replay.compare(this.db, this.findings)
    }
    return this.report()
  }

  /** One line of the file, and what the database has at its position. */
  private async checkEntry(entry: TrailEntry, text: string): Promise<void> {
    if (entry.position <= this.position) return this.checkRepeated(entry)
    if (entry.position > this.position + 1) await this.passGap(entry.position)
    this.position = entry.position
    if (this.isTreeWhole) this.tree.append(text)
    if (!this.concerns(entry.stream)) return

    const row = await this.rows.at(entry.position)
    if (row === null) {
      const event = await this.checkElsewhere(entry)
      if (event) this.found('ledger-removed', entry, 'the ledger has lost the position of')
    } else if (row.entry.stream !== entry.stream || row.entry.version !== entry.version) {
      this.found('ledger-altered', entry, `the ledger has ${row.entry.stream} at the position of`)
      await this.checkElsewhere(entry)
    } else if (row.event === null) {
      this.found('event-removed', entry, 'the database has lost')
    } else {
      const isGood = this.check(row.event, entry)
      if (row.entry.hash !== entry.hash)
        this.found('ledger-altered', entry, 'the ledger has another hash for')
      else if (isGood && row.seq !== row.event.seq) {
        this.found('event-altered', entry, 'the seq was changed of')
      }
    }
  }

  /** A second line for a position is harmless when it says the same. */
  private async checkRepeated(entry: TrailEntry): Promise<void> {
    const known = await findLedgerEntry(this.db, entry.position)
    if (known !== null && entryLine(known) !== entryLine(entry)) {
      this.found('trail-altered', entry, 'the file has two different lines for the position of')
    }
  }

  /** Lines are missing from the file. What the ledger has there is named. */
  private async passGap(until: number): Promise<void> {
    this.isTreeWhole = false
    const [first, last] = [this.position + 1, until - 1]
    this.findings.add(
      'trail-altered',
      { position: first },
      `the file has no line for positions ${first} to ${last}`,
    )
    for (let row = await this.rows.before(until); row !== null; row = await this.rows.before(until)) {
      this.found('trail-altered', row.entry, 'the file has lost')
      if (row.event) this.check(row.event, row.entry)
    }
  }

  /** The event that the file names, wherever the ledger believes it to be. Null: it is gone, and was named. */
  private async checkElsewhere(entry: TrailEntry): Promise<RawEvent | null> {
    const event = await findEvent(this.db, entry.stream, entry.version)
    if (event === null) this.found('event-removed', entry, 'the database has lost')
    else this.check(event, entry)
    return event
  }

  private checkCheckpoint(note: string): void {
    const checkpoint = openCheckpoint(note, this.options.publicKey)
    const position = checkpoint?.size ?? this.position
    if (checkpoint === null) {
      this.findings.add(
        'checkpoint-invalid',
        { position },
        `a checkpoint after position ${position} is not signed by this key`,
      )
      return
    }
    this.checkpoints += 1
    // An older size is that of a leader that was thought dead and finished its write; newer ones cover the same.
    if (checkpoint.size < this.position) return
    if (this.isTreeWhole && checkpoint.size === this.position && checkpoint.root.equals(this.tree.root())) {
      this.tail = NO_TAIL
      return
    }
    this.findings.add(
      'checkpoint-invalid',
      { position },
      `the checkpoint of size ${checkpoint.size} is not that of the ${this.position} entries before it`,
    )
  }

  /** In the ledger, and not yet in the file. */
  private checkTailRow({ entry, event, seq }: LedgerRow): void {
    if (this.options.stream === undefined && entry.position !== this.position + 1) {
      const position = this.position + 1
      this.findings.add(
        'ledger-removed',
        { position },
        `the ledger has a gap before position ${entry.position}`,
      )
    }
    this.position = entry.position
    if (event === null) this.found('event-removed', entry, 'the database has lost')
    else if (this.check(event, entry) && seq !== event.seq) {
      this.found('event-altered', entry, 'the seq was changed of')
    }
  }

  private async checkUnplaced(): Promise<void> {
    for await (const event of unplacedEvents(this.db)) {
      if (!this.concerns(event.stream)) continue
      const { stream, version } = event
      if (event.overlooked && !this.findings.has(stream, version)) {
        this.findings.add(
          'event-inserted',
          { stream, version },
          `${stream} version ${version} never got a position`,
        )
      } else if (!this.findings.has(stream, version)) {
        this.check(event, null)
      }
    }
  }

  /** Neither database nor file has ever had the stream: whatever was removed from one of them has been found by now. */
  private refuseUnknownStream(): void {
    const { stream } = this.options
    if (stream === undefined || this.events > 0 || this.findings.count > 0) return
    throw new Rejected(
      'NOT_FOUND',
      `nothing in the trail has the id ${JSON.stringify(stream.slice(0, 200))}`,
      {
        hint: 'give the whole id of a stream, as `sandtrail events` shows it',
      },
    )
  }

  /** True when nothing is wrong with the event. */
  private check(event: RawEvent, recorded: TrailEntry | null): boolean {
    this.events += 1
    if (event.version === 1) this.streams += 1
    const meta = checkEvent(event, recorded, this.findings)
    if (meta?.effects) this.replay.apply(event.tenant, meta.effects)
    this.tail = {
      events: this.tail.events + 1,
      fromPosition: this.tail.fromPosition ?? recorded?.position ?? null,
      oldestAt: this.tail.oldestAt ?? event.at,
    }
    return meta !== null
  }

  private found(kind: Parameters<Findings['add']>[0], entry: TrailEntry, what: string): void {
    this.findings.add(
      kind,
      entry,
      `${what} ${entry.stream} version ${entry.version} (position ${entry.position})`,
    )
  }

  private concerns(stream: string): boolean {
    return this.options.stream === undefined || this.options.stream === stream
  }

  private report(): VerifyReport {
    const { problems, count } = this.findings
    const { events, fromPosition, oldestAt } = this.tail
    const isDate = oldestAt instanceof Date && !Number.isNaN(oldestAt.getTime())
    return {
      ok: count === 0,
      events: this.events,
      streams: this.streams,
      checkpoints: this.checkpoints,
      problems,
      problemCount: count,
      unprotectedTail: { events, fromPosition, oldestAt: isDate ? oldestAt.toISOString() : null },
      tornLines: this.tornLines,
      notProved:
        this.options.stream === undefined
          ? NOT_PROVED
          : [...NOT_PROVED, 'anything about other streams, and about live, claims and reservations'],
    }
  }
}

/** The ledger's rows, asked for by position. Rows that are passed over are not seen again. */
class PeekingRows {
  private peeked: LedgerRow | null = null

  constructor(private readonly rows: AsyncGenerator<LedgerRow>) {}

  async next(): Promise<LedgerRow | null> {
    const row = await this.peek()
    this.peeked = null
    return row
  }

  /** The next row whose position is below the limit. */
  async before(limit: number): Promise<LedgerRow | null> {
    const row = await this.peek()
    return row !== null && row.entry.position < limit ? this.next() : null
  }

  async at(position: number): Promise<LedgerRow | null> {
    while ((await this.before(position)) !== null);
    return this.before(position + 1)
  }

  private async peek(): Promise<LedgerRow | null> {
    if (this.peeked === null) {
      const { value, done } = await this.rows.next()
      this.peeked = done ? null : value
    }
    return this.peeked
  }
}
