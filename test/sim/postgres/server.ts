/**
 * A model of Postgres, as far as the product uses it: what each of its statements does, under the locks that the real
 * one takes. The product's own code stands above it unchanged; libs/event-store's contract suites run on both.
 */

import type { Database } from '#libs/event-store'
import { nameTrouble } from '../../../libs/event-store/database.js'
import type { SimProcess } from '../world.js'
import { Session } from './session.js'
import { statements } from './statements/index.js'
import { type Row, Table, type Transaction, Transaction as Tx } from './tables.js'

export interface Result {
  rows: object[]
  rowCount: number | null
}

/** Where the model stands: a simulated world, or a test's real time. */
export interface Env {
  wallMs(): number
  after(ms: number, run: () => void, owner: SimProcess | null): void
  /** Asked by a client before each thing that it sends: true when it dies right there, and so never hears an answer. */
  dies(): boolean
}

/** What may go wrong. All of it never, unless it is asked for. */
export interface Weather {
  /** Of one way between client and server. */
  latencyMs(): number
  fate(statement: string): 'break-before' | 'break-after' | null
  isAway(): boolean
}

const FAIR: Weather = { latencyMs: () => 0, fate: () => null, isAway: () => false }
/** As in libs/event-store/database.ts: a session that holds a transaction open and says nothing is ended. */
const IDLE_IN_TRANSACTION_MS = 5_000

export class Postgres {
  readonly tables = {
    events: new Table('events'),
    ledger: new Table('ledger'),
    checkpoints: new Table('checkpoints'),
    sequencer: new Table('sequencer'),
    commands: new Table('commands'),
    claims: new Table('claims'),
    live: new Table('live'),
    workers: new Table('workers'),
    tenants: new Table('tenants'),
    reservations: new Table('reservations'),
    timers: new Table('timers'),
    cursors: new Table('cursors'),
    projections: new Table('projections'),
    openExecs: new Table('open_execs'),
    execSlots: new Table('exec_slots'),
  }
  /** Committed events of each stream, in order of version. */
  readonly byStream = new Map<string, Row[]>()
  /** Committed, and not in the ledger. */
  readonly unplaced = new Map<number, Row>()
  /** Every event in the order of the commits. */
  readonly history: Row[] = []
  private readonly sequences = new Map<string, number>()
  private readonly active = new Set<Transaction>()
  private readonly sessions = new Set<Session>()
  private lastXid = 0
  /** Called after each commit. */
  onCommit: () => void = () => {}

  constructor(
    readonly env: Env,
    private readonly weather: Weather = FAIR,
  ) {
    const position = {
      one: true,
      term: 0,
      leader: null,
      heartbeat_at: Number.NEGATIVE_INFINITY,
      position: 0,
      floor: 0,
    }
    this.tables.sequencer.rows.set('one', position)
  }

  /** What `pg.Pool` is to the product. */
  pool(owner: SimProcess | null = null): Database {
    const idle: Session[] = []
    const connect = async () => {
      if (this.env.dies()) return new Promise<never>(() => {})
      if (this.weather.isAway()) {
        await new Promise<void>((resolve) => this.env.after(5, resolve, owner))
        throw Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })
      }
      const session = idle.pop() ?? this.open(owner)
      if (session.isBroken) return this.open(owner)
      return session
    }
    const send = (session: Session, config: string, values?: unknown[]) =>
      this.env.dies() ? new Promise<never>(() => {}) : session.query(config, values)
    const release = (session: Session, error?: Error) => {
      if (error || session.isBroken || session.inTransaction) this.close(session)
      else idle.push(session)
    }
    const pool = {
      async query(config: string, values?: unknown[]) {
        try {
          const session = await connect()
          return await send(session, config, values).finally(() => release(session))
        } catch (error) {
          throw nameTrouble(error)
        }
      },
      async connect() {
        const session = await connect()
        return {
          query: (config: string, values?: unknown[]) => send(session, config, values),
          release: (error?: Error) => release(session, error),
        }
      },
      end: async () => {
        for (const session of idle) this.close(session)
      },
      on() {},
    }
    return pool as unknown as Database
  }

  /** Every connection breaks; what was not committed is gone. */
  restart(): void {
    for (const session of [...this.sessions]) this.close(session)
  }

  /** The process is dead: its connections break. */
  disconnect(owner: SimProcess): void {
    for (const session of [...this.sessions]) if (session.owner === owner) this.close(session)
  }

  /** It is stopped: its open transactions are ended when the server loses patience. */
  onStopped(owner: SimProcess): void {
    const check = () => {
      if (owner.state !== 'stopped') return
      for (const session of [...this.sessions]) {
        if (session.owner === owner && session.inTransaction) this.close(session)
      }
    }
    this.env.after(IDLE_IN_TRANSACTION_MS, check, null)
  }

  latencyMs(): number {
    return this.weather.latencyMs()
  }

  fate(statement: string): 'break-before' | 'break-after' | null {
    return this.weather.fate(statement)
  }

  begin(): Transaction {
    const tx = new Tx(++this.lastXid)
    this.active.add(tx)
    return tx
  }

  run(tx: Transaction, text: string, values: readonly unknown[]): Result {
    return statements.find(text)({ server: this, tx, values })
  }

  commit(tx: Transaction): void {
    tx.commit((table, _, row) => this.onWritten(table, row))
    this.finished(tx)
    this.onCommit()
  }

  finished(tx: Transaction | null): void {
    if (tx) this.active.delete(tx)
  }

  /** Every transaction below it has ended, the asking one aside. */
  xmin(own: Transaction): number {
    const others = [...this.active].filter((tx) => tx !== own).map((tx) => tx.xid)
    return Math.min(...others, own.xid)
  }

  /** Not given back by a rollback. */
  nextval(sequence: string): number {
    const value = (this.sequences.get(sequence) ?? 0) + 1
    this.sequences.set(sequence, value)
    return value
  }

  private onWritten(table: Table, row: Row | null): void {
    if (row === null) return
    if (table === this.tables.events) {
      const stream = String(row.stream)
      const of = this.byStream.get(stream) ?? []
      this.byStream.set(stream, of)
      of.push(row)
      this.unplaced.set(Number(row.seq), row)
      this.history.push(row)
    } else if (table === this.tables.ledger) {
      this.unplaced.delete(Number(row.seq))
    }
  }

  private open(owner: SimProcess | null): Session {
    const session = new Session(this, owner)
    this.sessions.add(session)
    return session
  }

  private close(session: Session): void {
    session.break()
    this.sessions.delete(session)
  }
}
