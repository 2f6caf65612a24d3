/** What every service stands on, watched the same way in each. */

import type { Operations } from './operations.js'

/** A pool of Postgres connections. */
interface Pool {
  readonly totalCount: number
  readonly idleCount: number
  readonly waitingCount: number
  query(text: string): Promise<unknown>
}

export function watchDatabase(operations: Operations, pool: Pool): void {
  operations.check('database', async () => {
    await pool.query('select 1')
    return 'answers'
  })
  operations.gauge('sandtrail_postgres_connections', 'Connections of this process.', ['state'], () => [
    { labels: { state: 'busy' }, value: pool.totalCount - pool.idleCount },
    { labels: { state: 'idle' }, value: pool.idleCount },
  ])
  operations.gauge('sandtrail_postgres_waiting', 'Callers that wait for a connection.', [], () => [
    { value: pool.waitingCount },
  ])
}

export function watchBroker(operations: Operations, connection: { flush(): Promise<void> }): void {
  operations.check('broker', async () => {
    await connection.flush()
    return 'answers'
  })
}
