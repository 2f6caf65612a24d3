/** Timers set and consumed without an append. The loop that fires them is ../timer-loop.ts. */

import type { Queryable } from '../database.js'
import { inOrder } from '../group-json.js'
import type { TimerRef, TimerToSet } from '../types.js'

const SET = `
  insert into timers (key, tenant, due, kind, payload)
  select t.key, $1, clock_timestamp() + t."afterMs" * interval '1 millisecond', t.kind, t.payload
  from jsonb_to_recordset($2::jsonb) as t (key text, "afterMs" double precision, kind text, payload jsonb)
  on conflict (key) do update
  set tenant = excluded.tenant, generation = nextval('timers_generation'), due = excluded.due,
      kind = excluded.kind, payload = excluded.payload, attempts = 0
`

/** For a subscription's handler, whose cursor moves in the same transaction. */
export async function setTimers(tx: Queryable, tenant: string, timers: TimerToSet[]): Promise<void> {
  // One order for all, against deadlocks.
  const rows = inOrder(timers, ({ key }) => key)
  await tx.query({ name: 'set-timers', text: SET, values: [tenant, JSON.stringify(rows)] })
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
