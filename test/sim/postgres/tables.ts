/**
 * Tables, locks and transactions of the model of Postgres: read committed, row locks held to the end, a waiter decides
 * again on what is true when it gets its turn.
 */

export type Row = Readonly<Record<string, unknown>>

/** Thrown by a statement that must wait; it is run again from its beginning when the lock is free. */
export class MustWait {
  constructor(readonly lock: Lock) {}
}

export class Lock {
  exclusive: Transaction | null = null
  readonly shared = new Set<Transaction>()
  readonly waiting: (() => void)[] = []

  holders(): Transaction[] {
    return this.exclusive ? [this.exclusive] : [...this.shared]
  }
}

export class Table {
  readonly rows = new Map<string, Row>()
  readonly locks = new Map<string, Lock>()

  constructor(readonly name: string) {}

  lockOf(key: string): Lock {
    let lock = this.locks.get(key)
    if (lock === undefined) {
      lock = new Lock()
      this.locks.set(key, lock)
    }
    return lock
  }
}

export class Transaction {
  private readonly writes = new Map<Table, Map<string, Row | null>>()
  private readonly held = new Set<Lock>()
  /** What it waits for, for the search for deadlocks. */
  waitsFor: Lock | null = null
  failed = false

  constructor(readonly xid: number) {}

  get(table: Table, key: string): Row | undefined {
    const own = this.writes.get(table)
    if (own?.has(key)) return own.get(key) ?? undefined
    return table.rows.get(key)
  }

  /** Every row that it sees. */
  scan(table: Table): Row[] {
    const own = this.writes.get(table)
    if (own === undefined) return [...table.rows.values()]
    const seen = [...table.rows].filter(([key]) => !own.has(key)).map(([, row]) => row)
    return [...seen, ...[...own.values()].filter((row) => row !== null)]
  }

  put(table: Table, key: string, row: Row | null): void {
    let own = this.writes.get(table)
    if (own === undefined) {
      own = new Map()
      this.writes.set(table, own)
    }
    own.set(key, row)
  }

  /** Before a row is written, or inserted: whoever holds it is waited for. */
  lock(table: Table, key: string, mode: 'exclusive' | 'shared' = 'exclusive'): void {
    if (!this.tryLock(table, key, mode)) throw new MustWait(table.lockOf(key))
  }

  /** False when another has it. */
  tryLock(table: Table, key: string, mode: 'exclusive' | 'shared' = 'exclusive'): boolean {
    const lock = table.lockOf(key)
    if (lock.exclusive !== null && lock.exclusive !== this) return false
    if (mode === 'exclusive') {
      if ([...lock.shared].some((holder) => holder !== this)) return false
      lock.exclusive = this
    } else if (lock.exclusive === null) lock.shared.add(this)
    this.held.add(lock)
    return true
  }

  /** True when the one that holds what it would wait for waits for it, by however many steps. */
  wouldDeadlock(wanted: Lock, seen = new Set<Lock>()): boolean {
    if (seen.has(wanted)) return false
    seen.add(wanted)
    return wanted
      .holders()
      .some(
        (holder) =>
          holder === this || (holder.waitsFor !== null && this.wouldDeadlock(holder.waitsFor, seen)),
      )
  }

  /** Gives every written row to `onWrite`, and lets go of the locks. */
  commit(onWrite: (table: Table, key: string, row: Row | null) => void): void {
    for (const [table, own] of this.writes) {
      for (const [key, row] of own) {
        if (row === null) table.rows.delete(key)
        else table.rows.set(key, row)
        onWrite(table, key, row)
      }
    }
    this.letGo()
  }

  rollback(): void {
    this.letGo()
  }

  /** What it wrote, not what it locked. */
  undo(): void {
    this.writes.clear()
  }

  private letGo(): void {
    this.writes.clear()
    for (const lock of this.held) {
      if (lock.exclusive === this) lock.exclusive = null
      lock.shared.delete(this)
      for (const wake of lock.waiting.splice(0)) wake()
    }
    this.held.clear()
  }
}
