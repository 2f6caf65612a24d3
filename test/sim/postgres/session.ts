/**
 * One connection: statements are carried out in the order in which they were sent, also when they were sent without
 * waiting (`pipeline`). It may break at any of them, and at the commit before or after its effect.
 */

import pg from 'pg'
import type { SimProcess } from '../world.js'
import type { Postgres, Result } from './server.js'
import { Lock, MustWait, type Transaction } from './tables.js'

interface Job {
  text: string
  values: readonly unknown[]
  resolve(result: Result): void
  reject(error: Error): void
}

export class Session {
  isBroken = false
  private tx: Transaction | null = null
  /** The transaction is one statement's own. */
  private isImplicit = false
  /** What it has done, while its commit waits for the disk. */
  private done: Result | null = null
  private readonly jobs: Job[] = []
  private readonly replies: (() => void)[] = []
  private lockTimeoutMs = 0
  private stopWaiting: (() => void) | null = null
  private arriving = false

  constructor(
    private readonly server: Postgres,
    /** The process at the client's end; null outside of a simulated world. */
    readonly owner: SimProcess | null,
  ) {}

  get inTransaction(): boolean {
    return this.tx !== null && !this.isImplicit
  }

  query(
    config: string | { text: string; values?: readonly unknown[] },
    values: readonly unknown[] = [],
  ): Promise<Result> {
    const { text, values: given = values } = typeof config === 'string' ? { text: config } : config
    if (this.isBroken) return Promise.reject(new Error('Connection terminated unexpectedly'))
    return new Promise((resolve, reject) => {
      // As the wire would: a copy, so that nobody changes a row by accident.
      this.jobs.push({ text, values: given, resolve, reject })
      if (this.jobs.length === 1 && !this.arriving) this.arrive()
    })
  }

  /** The client's process is gone, or the network between: what is open is rolled back. */
  break(): void {
    if (this.isBroken) return
    this.isBroken = true
    this.stopWaiting?.()
    this.tx?.rollback()
    this.tx = null
    for (const { reject } of this.jobs.splice(0)) {
      this.replies.push(() => reject(new Error('Connection terminated unexpectedly')))
    }
    this.server.env.after(0, () => this.flush(), this.owner)
  }

  private arrive(): void {
    const ms = this.server.latencyMs()
    if (ms === 0) {
      this.pump()
      return
    }
    this.arriving = true
    const arrived = () => {
      this.arriving = false
      this.pump()
    }
    this.server.env.after(ms, arrived, null)
  }

  private pump(): void {
    while (this.jobs.length > 0 && !this.isBroken && this.stopWaiting === null) {
      const [job] = this.jobs as [Job]
      const fate = this.server.fate(job.text)
      if (fate === 'break-before') {
        this.break()
        return
      }
      let result: Result | Error
      try {
        result = this.perform(job)
      } catch (error) {
        if (error instanceof MustWait) {
          this.wait(job, error)
          return
        }
        if (!(error instanceof Error)) throw error
        result = error
        if (this.tx) this.tx.failed = true
      }
      if (this.isBroken) return
      if (fate === 'break-after') {
        this.break()
        return
      }
      this.jobs.shift()
      this.reply(() => (result instanceof Error ? job.reject(result) : job.resolve(result)))
    }
  }

  private perform({ text, values }: Job): Result {
    if (/^begin\b/.test(text)) {
      this.tx = this.server.begin()
      return NOTHING
    }
    switch (text) {
      case 'commit':
        if (this.tx && !this.tx.failed) this.server.commit(this.tx)
        else this.tx?.rollback()
        this.end()
        return NOTHING
      case 'rollback':
        this.tx?.rollback()
        this.end()
        return NOTHING
    }
    const setting = /^set local (\w+) = '?(\d+)(s?)/.exec(text)
    if (setting) {
      if (setting[1] === 'lock_timeout') this.lockTimeoutMs = Number(setting[2]) * (setting[3] ? 1000 : 1)
      return NOTHING
    }
    if (this.tx?.failed) throw databaseError('25P02', 'current transaction is aborted')
    this.isImplicit ||= this.tx === null
    this.tx ??= this.server.begin()
    try {
      const result = this.done ?? this.server.run(this.tx, text, values)
      if (this.isImplicit) {
        // In between others see nothing of it, and place what was inserted later.
        if (this.done === null && text.includes('append_commands')) this.waitForDisk(result)
        this.server.commit(this.tx)
        this.end()
      }
      return result
    } catch (error) {
      // One that waits keeps what it has locked.
      if (this.isImplicit && !(error instanceof MustWait)) this.undo()
      throw error
    }
  }

  private waitForDisk(done: Result): void {
    const ms = this.server.latencyMs()
    if (ms === 0) return
    this.done = done
    const disk = new Lock()
    const written = () => {
      for (const wake of disk.waiting.splice(0)) wake()
    }
    this.server.env.after(ms, written, null)
    throw new MustWait(disk)
  }

  private undo(): void {
    this.tx?.rollback()
    this.end()
  }

  private end(): void {
    this.server.finished(this.tx)
    this.tx = null
    this.isImplicit = false
    this.done = null
    this.lockTimeoutMs = 0
  }

  /** The statement is carried out from its beginning once the lock is free. */
  private wait(job: Job, { lock }: MustWait): void {
    if (this.tx?.wouldDeadlock(lock)) {
      this.refuse(job, '40P01', 'deadlock detected')
      return
    }
    const { env } = this.server
    let isOver = false
    const stop = () => {
      isOver = true
      this.stopWaiting = null
      if (this.tx) this.tx.waitsFor = null
    }
    this.stopWaiting = stop
    if (this.tx) this.tx.waitsFor = lock
    lock.waiting.push(() => {
      env.after(
        0,
        () => {
          if (isOver) return
          stop()
          this.pump()
        },
        null,
      )
    })
    if (this.lockTimeoutMs === 0) return
    const tooLong = () => {
      if (isOver) return
      stop()
      this.refuse(job, '55P03', 'canceling statement due to lock timeout')
    }
    env.after(this.lockTimeoutMs, tooLong, null)
  }

  private refuse(job: Job, code: string, message: string): void {
    if (this.isImplicit) this.undo()
    else if (this.tx) this.tx.failed = true
    this.jobs.shift()
    this.reply(() => job.reject(databaseError(code, message)))
    this.pump()
  }

  /** Replies come in the order of the statements. */
  private reply(deliver: () => void): void {
    const ms = this.server.latencyMs()
    const isAwake = this.owner === null || this.owner.state === 'running'
    if (ms === 0 && this.replies.length === 0 && isAwake) {
      deliver()
      return
    }
    this.replies.push(deliver)
    if (this.replies.length === 1) this.server.env.after(ms, () => this.flush(), this.owner)
  }

  private flush(): void {
    for (const deliver of this.replies.splice(0)) deliver()
  }
}

const NOTHING: Result = { rows: [], rowCount: null }

function databaseError(code: string, message: string): Error {
  return Object.assign(new pg.DatabaseError(message, message.length, 'error'), { code })
}
