/**
 * Gives committed events their place in one order for everybody: gapless positions, signed checkpoints, the trail file
 * outside the database, and the broker.
 *
 *   follower --(leader not heard)--> leader --(term or position refused, stop)--> follower
 *
 * Only a leader's statement with the newest term places anything, so a leader that was paused and comes back changes
 * nothing. Everything after the ledger (file, checkpoint, broker) follows from it and may be done twice.
 */

import { randomUUID } from 'node:crypto'
import { SandtrailError } from '#libs/domain'
import type { Database } from '../database.js'
import { Loop } from '../loop.js'
import type { CheckpointSigner } from './checkpoint-note.js'
import { insertCheckpoint, latestFrontier } from './checkpoints.js'
import { MerkleFrontier } from './merkle.js'
import { type Lead, type Placed, placeEvents, readEntries, releaseLead, takeLead } from './place.js'
import { type Publish, Publisher } from './publisher.js'
import { entryLine, type TrailEntry, TrailFile } from './trail-file.js'

export interface SequencerOptions {
  db: Database
  /** JSON lines, appended and fsynced; outside the reach of the database's superuser. */
  trailFile: string
  signer: CheckpointSigner
  publish: Publish
  /** After each batch, with its streams: what follows them in this process may look at once. */
  onPlaced?: (streams: string[]) => void
  onError?: (error: unknown) => void
}

const BATCH = 1_000
/** The fallback behind the nudge, and the leader's heartbeat: each is a commit. */
const POLL_MS = 1_000
/** While a checkpoint is due: together with its pause, the tail that none covers is never older than 1 s. */
const UNCOVERED_POLL_MS = 250
const CHECKPOINT_MS = 700

export class Sequencer {
  private readonly id = randomUUID()
  private readonly loop: Loop
  private readonly publisher: Publisher
  private readonly trail: TrailFile
  private lead: Lead | null = null
  /** The tree over the ledger as far as it is in the file. */
  private tree = new MerkleFrontier()
  private checkpointedSize = 0
  private checkpointedAt = Number.NEGATIVE_INFINITY
  /** A seq that was the newest in a batch, and an id that all transactions under way then are below. */
  private candidate: { seq: bigint; xid: bigint } | null = null
  private newestSeq = 0n

  constructor(private readonly options: SequencerOptions) {
    const { db, publish, trailFile, onError = () => {} } = options
    this.trail = new TrailFile(trailFile)
    const pollMs = () => (this.tree.size > this.checkpointedSize ? UNCOVERED_POLL_MS : POLL_MS)
    this.loop = new Loop(() => this.step(), { pollMs, onError })
    this.publisher = new Publisher(db, publish, onError)
  }

  get isLeader(): boolean {
    return this.lead !== null
  }

  start(): void {
    this.loop.start()
  }

  /** Places and signs what is there, then lets the next leader in at once. */
  async stop(): Promise<void> {
    await this.loop.stop()
    await this.publisher.stop()
    if (this.lead !== null) {
      await this.handOver(this.lead).catch((error) => this.options.onError?.(error))
      this.lead = null
    }
    this.trail.close()
  }

  /** After a commit, here or elsewhere. */
  nudge(): void {
    this.loop.nudge()
  }

  private async step(): Promise<boolean> {
    if (this.lead === null && !(await this.becomeLeader())) return false
    const { lead } = this
    if (lead === null) return false
    const placed = await placeEvents(this.options.db, lead, BATCH)
    if (placed === null) {
      await this.stepDown()
      return false
    }
    this.advance(lead, placed)
    if (placed.entries.length > 0) {
      this.publisher.nudge()
      this.options.onPlaced?.(placed.entries.map(({ stream }) => stream))
    }
    await this.follow(placed.entries, lead)
    return placed.entries.length === BATCH
  }

  private async becomeLeader(): Promise<boolean> {
    const lead = await takeLead(this.options.db, this.id)
    if (lead === null) return false
    try {
      this.tree = await latestFrontier(this.options.db)
      this.checkpointedSize = this.tree.size
      this.candidate = null
      this.newestSeq = lead.floor
      await this.catchUp(lead)
    } catch (error) {
      // Nobody leads without a whole trail file; another host's may be in order.
      await releaseLead(this.options.db, lead.term)
      throw error
    }
    this.lead = lead
    this.publisher.start()
    return true
  }

  private async stepDown(): Promise<void> {
    this.lead = null
    await this.publisher.stop()
  }

  private async handOver(lead: Lead): Promise<void> {
    const placed = await placeEvents(this.options.db, lead, BATCH)
    if (placed === null) return
    this.advance(lead, placed)
    await this.follow(placed.entries, lead, 0)
    await releaseLead(this.options.db, lead.term)
  }

  /**
   * Moves the floor when it is safe. A transaction gets its id before its first seq. So when every transaction that
   * was under way in an earlier batch has ended, and this batch took all that is visible, no event with a seq up to
   * that batch's newest can still come. A long transaction elsewhere keeps the floor where it is, nothing else.
   */
  private advance(lead: Lead, { entries, newestSeq, xmin, xid }: Placed): void {
    lead.position += entries.length
    if (newestSeq !== null && newestSeq > this.newestSeq) this.newestSeq = newestSeq
    const tookAll = entries.length < BATCH
    if (this.candidate !== null && tookAll && xmin >= this.candidate.xid) {
      lead.floor = this.candidate.seq
      this.candidate = null
    }
    if (this.candidate === null && this.newestSeq > lead.floor) {
      this.candidate = { seq: this.newestSeq, xid }
    }
  }

  /** File and checkpoint follow the ledger. When they fail they are tried again; placing goes on meanwhile. */
  private async follow(entries: TrailEntry[], lead: Lead, everyMs = CHECKPOINT_MS): Promise<void> {
    const inStep = this.tree.size + entries.length === lead.position && !this.trail.hasMoved()
    if (inStep) this.record(entries)
    else await this.catchUp(lead)
    const isDue = performance.now() - this.checkpointedAt >= everyMs
    if (isDue && this.tree.size > this.checkpointedSize) await this.checkpoint(lead)
  }

  private record(entries: TrailEntry[]): void {
    if (entries.length === 0) return
    this.trail.append(entries)
    for (const entry of entries) this.tree.append(entryLine(entry))
  }

  /** Writes to the file what the ledger has and it has not, and brings the tree to the ledger's end. */
  private async catchUp(lead: Lead): Promise<void> {
    const last = this.trail.synchronize()
    let inFile = last?.position ?? 0
    if (last !== null) await this.assertSameHistory(last, lead)
    let at = Math.min(inFile, this.tree.size)
    while (at < lead.position) {
      const entries = await readEntries(this.options.db, at, BATCH)
      if (entries.length === 0)
        throw new Error(`the ledger ends at ${at}, its last position is ${lead.position}`)
      const missing = entries.filter((entry) => entry.position > inFile)
      if (missing.length > 0) this.trail.append(missing)
      for (const entry of entries) if (entry.position > this.tree.size) this.tree.append(entryLine(entry))
      at = entries.at(-1)?.position as number
      inFile = Math.max(inFile, at)
    }
  }

  /** A file that knows more than the ledger, or other things, means that the database was set back or changed. */
  private async assertSameHistory(last: TrailEntry, lead: Lead): Promise<void> {
    const [entry] = await readEntries(this.options.db, last.position - 1, 1)
    if (last.position <= lead.position && entry && entryLine(entry) === entryLine(last)) return
    throw new SandtrailError(
      'INTERNAL',
      `${this.trail.path} ends with position ${last.position} of ${last.stream}, which the ledger does not have`,
      {
        hint: 'the database was set back or changed: run `sandtrail verify`; if it was set back, `sandtrail-admin adopt` (docs/backup.md)',
      },
    )
  }

  private async checkpoint(lead: Lead): Promise<void> {
    const note = this.options.signer.sign(this.tree.size, this.tree.root())
    this.trail.appendCheckpoint(note)
    this.trail.sync()
    await insertCheckpoint(this.options.db, this.tree, note, lead.term)
    this.checkpointedSize = this.tree.size
    this.checkpointedAt = performance.now()
  }
}
