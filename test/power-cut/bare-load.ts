/** Appends by the product's code, each to a stream of its own, and which of them were acknowledged. */

import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { append, type Database } from '#libs/event-store'
import { request } from '../../libs/event-store/testing-requests.js'
import { query } from './guest-postgres.js'

export interface Loss {
  acknowledged: number
  lost: number
}

const CLIENTS = 4
/** Acknowledged appends after which a load is under way. */
const WARM = 20
const WARM_MS_MAX = 120_000

export class BareLoad {
  private readonly acknowledged: string[] = []
  private failure: unknown
  private readonly db: pg.Pool
  private readonly stopping = new AbortController()
  private readonly work: Promise<void>[]

  constructor(
    private readonly url: string,
    synchronousCommit: 'on' | 'off',
  ) {
    // As `openDatabase` has it, but for the one setting: the product's cannot be turned off.
    this.db = new pg.Pool({
      connectionString: url,
      max: CLIENTS,
      pipeline: true,
      options: `-c synchronous_commit=${synchronousCommit} -c timezone=UTC`,
      connectionTimeoutMillis: 10_000,
    })
    this.db.on('error', () => {})
    this.db.on('connect', (client) => client.on('error', () => {}))
    this.work = Array.from({ length: CLIENTS }, () => this.append())
  }

  /** Resolves when it is under way. */
  async warm(): Promise<void> {
    const giveUpAt = performance.now() + WARM_MS_MAX
    while (this.acknowledged.length < WARM) {
      if (performance.now() > giveUpAt) throw new Error('no append succeeds', { cause: this.failure })
      await delay(20)
    }
  }

  /** Once the power is cut: no answer will come any more. */
  async stop(): Promise<void> {
    this.stopping.abort()
    await Promise.all(this.work)
    await this.db.end()
  }

  /** Once the server is back. */
  async judge(): Promise<Loss> {
    const there = new Set((await query(this.url, 'select stream from events')).map(({ stream }) => stream))
    const lost = this.acknowledged.filter((stream) => !there.has(stream))
    return { acknowledged: this.acknowledged.length, lost: lost.length }
  }

  private async append(): Promise<void> {
    while (!this.stopping.signal.aborted) {
      const wanted = request()
      const result = await append(this.db as Database, wanted).catch((error: unknown) => {
        this.failure = error
        return null
      })
      if (result?.outcome === 'appended') this.acknowledged.push(wanted.writes[0]!.stream)
      else await delay(50)
    }
  }
}
