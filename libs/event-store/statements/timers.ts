/** Timers as an append changes them. The loop that fires them is ../timer-loop.ts. */

import type { Queryable } from '../database.js'
import type { AppendRequest, TimerRef, TimerToSet } from '../types.js'

/** Cancels and consumes first, so that a handler may set the same key anew. */
export async function changeTimers(
  tx: Queryable,
  tenant: string,
  changes: NonNullable<AppendRequest['timers']>,
): Promise<void> {
  const { cancel = [], consume = [], set = [] } = changes
  await Promise.all([
    cancel.length > 0 && cancelTimers(tx, cancel),
    consume.length > 0 && consumeTimers(tx, consume),
    set.length > 0 && setTimers(tx, tenant, set),
  ])
}

const SET = `
  insert into timers (key, tenant, due, kind, payload)
  select t.key, $1, clock_timestamp() + t.after_ms * interval '1 millisecond', t.kind, t.payload
  from jsonb_to_recordset($2::jsonb) as t (key text, after_ms double precision, kind text, payload jsonb)
  on conflict (key) do update
  set tenant = excluded.tenant, generation = nextval('timers_generation'), due = excluded.due,
      kind = excluded.kind, payload = excluded.payload, attempts = 0
`

/** For a subscription's handler, whose cursor moves in the same transaction. */
export async function setTimers(tx: Queryable, tenant: string, timers: TimerToSet[]): Promise<void> {
  const rows = timers
    .map(({ key, afterMs, kind, payload }) => ({ key, after_ms: afterMs, kind, payload }))
    .sort((a, b) => (a.key < b.key ? -1 : 1)) // One order for all, against deadlocks.
  await tx.query({ name: 'set-timers', text: SET, values: [tenant, JSON.stringify(rows)] })
}

const CANCEL = `
  delete from timers
  where key = any($1::text[])
`

async function cancelTimers(tx: Queryable, keys: string[]): Promise<void> {
  await tx.query({ name: 'cancel-timers', text: CANCEL, values: [keys] })
}

const CONSUME = `
  -- The generation is the fence: a timer that was set again since it fired stays.
  delete from timers
  where (key, generation) in (select * from unnest($1::text[], $2::bigint[]))
`

export async function consumeTimers(tx: Queryable, timers: TimerRef[]): Promise<void> {
  const values = [timers.map((timer) => timer.key), timers.map((timer) => String(timer.generation))]
  await tx.query({ name: 'consume-timers', text: CONSUME, values })
}
