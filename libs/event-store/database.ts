/** Connections to Postgres, and how its failures are told apart. */

import pg from 'pg'
import { SandtrailError } from '#libs/domain'
import { tlsTrouble } from '#libs/tls'

/** A pool or one of its clients: whatever a statement can be sent to. */
export type Queryable = Pick<pg.ClientBase, 'query'>
export type Database = pg.Pool
export type Transaction = pg.PoolClient

export interface PoolOptions {
  url: string
  /** Connections at most. */
  max?: number
  /** Shown in pg_stat_activity. */
  name?: string
}

/**
 * A pool whose clients are pipelined: statements that do not wait for each other's results go out together. The caller
 * ends it.
 */
export function openDatabase({ url, max = 10, name = 'sandtrail' }: PoolOptions): Database {
  const pool = new pg.Pool({
    connectionString: url,
    max,
    application_name: name,
    pipeline: true,
    connectionTimeoutMillis: 5_000,
    // A peer that has silently gone must not hold an append for the hours of TCP's own patience.
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    statement_timeout: 30_000,
    // Above the server's own limit: reached only when the server, or the way to it, is silent.
    query_timeout: 35_000,
    // A stopped process must not keep its locks: 5 s is far above a transaction of ours, which takes milliseconds.
    idle_in_transaction_session_timeout: 5_000,
    // Every query here is short. Compiling for 16 partitions took 2 s before the first analyze, and starting parallel
    // workers 60 ms, for queries of 2 ms.
    options: '-c synchronous_commit=on -c timezone=UTC -c jit=off -c max_parallel_workers_per_gather=0',
  })
  // A connection that breaks is an event of its own, beside the failure of the query in flight; without a listener
  // Node would end the process. The pool drops the broken client by itself, in use or idle.
  pool.on('error', () => {})
  pool.on('connect', (client) => client.on('error', () => {}))
  const query = pool.query.bind(pool) as (...args: unknown[]) => Promise<unknown>
  const named = async (...args: unknown[]) => {
    try {
      return await query(...args)
    } catch (error) {
      throw nameTrouble(error)
    }
  }
  pool.query = named as typeof pool.query
  return pool
}

/**
 * Runs `work` in one transaction that `begin` opens: commits when it resolves, rolls back when it throws.
 * Throws UNAVAILABLE when the connection is lost or a lock is not had in time.
 */
export async function transaction<T>(
  db: Database,
  work: (tx: Transaction) => Promise<T>,
  begin = 'begin',
): Promise<T> {
  const tx = await connect(db)
  let broken: Error | undefined
  try {
    await tx.query(begin)
    const result = await work(tx)
    await tx.query('commit')
    return result
  } catch (error) {
    await tx.query('rollback').catch((failure) => {
      broken = failure
    })
    throw nameTrouble(error)
  } finally {
    tx.release(broken)
  }
}

/** A client from the pool. Throws UNAVAILABLE or TLS_FAILED when there is none: nothing has been sent then. */
export async function connect(db: Database): Promise<Transaction> {
  try {
    return await db.connect()
  } catch (cause) {
    const distrust = tlsTrouble(cause, 'the database')
    if (distrust !== null) throw distrust
    throw new SandtrailError('UNAVAILABLE', 'the database cannot be reached', {
      hint: 'check that Postgres runs and accepts connections',
      cause,
    })
  }
}

/** The five characters of an SQL error, or null when the failure came from elsewhere (the connection, our code). */
export function sqlState(error: unknown): string | null {
  return error instanceof pg.DatabaseError ? (error.code ?? null) : null
}

/**
 * True for what says nothing about the statement's effect: the connection broke, or the server is going down. An
 * error that neither the server nor the driver made is a bug of ours, and no connection's.
 */
export function isConnectionLoss(error: unknown): boolean {
  const state = sqlState(error)
  if (state !== null) return state.startsWith('08') || state.startsWith('57P')
  // Not by its class: an error of Node's own may come from another realm, in tests it does.
  const { code, message } = (error ?? {}) as Partial<NodeJS.ErrnoException>
  return SYSTEM_CODES.test(code ?? '') || DRIVER_MESSAGES.test(message ?? '')
}

/** ECONNRESET, EPIPE ... and a socket that is gone; not ERR_INVALID_ARG_TYPE and its like. */
const SYSTEM_CODES = /^(E(?!RR_)[A-Z]+|ERR_STREAM_[A-Z_]+)$/
/** pg and pg-pool give these no code. */
const DRIVER_MESSAGES = new RegExp(
  [
    '^Connection terminated',
    '^timeout expired$',
    '^timeout exceeded when trying to connect$',
    '^Query read timeout$',
    '^Client has encountered a connection error',
    '^Client was closed',
    '^Cannot use a pool after calling end',
    '^Received unexpected .* message from backend',
  ].join('|'),
)

/** statement_timeout, or a cancel; lock_timeout. The server has undone the statement. */
const TOOK_TOO_LONG = new Set(['57014', '55P03'])

/** The trouble that a re-send may cure, as UNAVAILABLE or TLS_FAILED; everything else as it is. */
export function nameTrouble(error: unknown): unknown {
  const distrust = tlsTrouble(error, 'the database')
  if (distrust !== null) return distrust
  if (TOOK_TOO_LONG.has(sqlState(error) ?? '')) {
    return new SandtrailError('UNAVAILABLE', 'the database took too long; nothing was written', {
      cause: error,
    })
  }
  if (!isConnectionLoss(error)) return error
  return new SandtrailError('UNAVAILABLE', 'the database broke off', {
    hint: 'check that Postgres runs and accepts connections',
    cause: error,
  })
}

/**
 * Refuses a server on which "committed" would not mean "on disk". Throws UNAVAILABLE naming the settings.
 * Checksums are asked for too: without them a rotten page is found by `verify` only, and later.
 */
export async function assertDurable(db: Queryable): Promise<void> {
  const wanted = ['fsync', 'full_page_writes', 'synchronous_commit']
  const { rows } = await db.query<{ name: string; setting: string }>(
    'select name, setting from pg_settings where name = any($1)',
    [wanted],
  )
  const wrong = rows.filter(({ setting }) => setting === 'off' || setting === 'local')
  if (wrong.length === 0) return
  const list = wrong.map(({ name, setting }) => `${name}=${setting}`).join(', ')
  throw new SandtrailError('UNAVAILABLE', `Postgres would lose committed events in a power cut: ${list}`, {
    hint: 'set fsync, full_page_writes and synchronous_commit to on',
    retryable: false,
  })
}
