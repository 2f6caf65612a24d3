/** The `live` rows: who runs a sandbox, and whether it still takes execs. */

import type { Queryable } from '../database.js'
import type { LiveChange } from '../types.js'

export type Fenced = 'absent' | 'epoch' | 'closing'
type Change<A extends LiveChange['action']> = Extract<LiveChange, { action: A }>

/** Makes the change, or says why the fence refuses it. */
export async function changeLive(
  tx: Queryable,
  tenant: string,
  change: Exclude<LiveChange, { action: 'require' }>,
): Promise<Fenced | null> {
  switch (change.action) {
    case 'open':
      return openLive(tx, tenant, change)
    case 'closing':
      return beginClosing(tx, tenant, change)
    case 'close':
      return closeLive(tx, tenant, change)
  }
}

const OPEN = `
  insert into live (sandbox_id, tenant, worker_id, epoch, state)
  values ($1, $2, $3, $4, 'open')
  on conflict (sandbox_id) do nothing
`

async function openLive(tx: Queryable, tenant: string, change: Change<'open'>): Promise<Fenced | null> {
  const values = [change.sandboxId, tenant, change.workerId, change.epoch]
  const { rowCount } = await tx.query({ name: 'live-open', text: OPEN, values })
  return rowCount === 1 ? null : 'epoch'
}

interface LiveRow {
  worker_id: string
  epoch: number
  state: 'open' | 'closing'
}

const REQUIRE = `
  -- Share: execs do not wait for each other, but a closing waits for them and they for it.
  select sandbox_id, worker_id, epoch, state
  from live
  where sandbox_id = any($1) and tenant = $2
  order by sandbox_id
  for share
`

/** Looks at several at once. Null, or why the fence refuses the first that it refuses. */
export async function requireLive(
  tx: Queryable,
  tenant: string,
  changes: Change<'require'>[],
): Promise<Fenced | null> {
  const values = [[...new Set(changes.map(({ sandboxId }) => sandboxId))], tenant]
  const { rows } = await tx.query<LiveRow & { sandbox_id: string }>({
    name: 'live-require',
    text: REQUIRE,
    values,
  })
  const found = new Map(rows.map((row) => [row.sandbox_id, row]))
  for (const change of changes) {
    const reason = judge(found.get(change.sandboxId), change)
    if (reason !== null) return reason
  }
  return null
}

const BEGIN_CLOSING = `
  update live
  set state = 'closing'
  where sandbox_id = $1 and tenant = $2
`

async function beginClosing(
  tx: Queryable,
  tenant: string,
  change: Change<'closing'>,
): Promise<Fenced | null> {
  const values = [change.sandboxId, tenant]
  const { rowCount } = await tx.query({ name: 'live-closing', text: BEGIN_CLOSING, values })
  return rowCount === 1 ? null : 'absent'
}

const CLOSE = `
  -- Deleted whoever asks, and judged by what was there: a refused append is rolled back.
  delete from live
  where sandbox_id = $1 and tenant = $2
  returning worker_id, epoch, state
`

async function closeLive(tx: Queryable, tenant: string, change: Change<'close'>): Promise<Fenced | null> {
  const values = [change.sandboxId, tenant]
  const { rows } = await tx.query<LiveRow>({ name: 'live-close', text: CLOSE, values })
  return judge(rows[0], { ...change, open: false })
}

function judge(
  row: LiveRow | undefined,
  wanted: { workerId?: string; epoch?: number; open: boolean },
): Fenced | null {
  if (row === undefined) return 'absent'
  if (wanted.workerId !== undefined && wanted.workerId !== row.worker_id) return 'epoch'
  if (wanted.epoch !== undefined && wanted.epoch !== row.epoch) return 'epoch'
  return wanted.open && row.state === 'closing' ? 'closing' : null
}
