/** The table of execs that have not ended. It follows the ledger, so it may be a moment behind the streams. */

import type { ExecEvent, ExecId, SandboxId } from '#libs/domain'
import type { Queryable, RecordedEvent } from '#libs/event-store'

export interface OpenExec {
  execId: ExecId
  tenant: string
  sandboxId: SandboxId
}

const INSERT = `
  insert into open_execs (exec_id, tenant, sandbox_id)
  values ($1, $2, $3)
  on conflict do nothing
`
const START = `
  update open_execs
  set started = true
  where exec_id = $1
`
const DELETE = `
  delete from open_execs
  where exec_id = $1
`

/** Applies one event of an exec's stream. Safe to repeat in order. */
export async function followExec(db: Queryable, event: RecordedEvent): Promise<void> {
  switch (event.type as ExecEvent['type']) {
    case 'ExecRequested': {
      const { spec } = event.data as { spec: { sandboxId: string } }
      await db.query(INSERT, [event.stream, event.tenant, spec.sandboxId])
      return
    }
    case 'ExecStarted':
      await db.query(START, [event.stream])
      return
    case 'ExecSignalRequested':
      return
    case 'ExecExited':
    case 'ExecFailed':
    case 'ExecLost':
      await db.query(DELETE, [event.stream])
  }
}

const OF_SANDBOX = `
  select exec_id as "execId", tenant, sandbox_id as "sandboxId"
  from open_execs
  where sandbox_id = $1
  order by exec_id
`

export async function openExecsOf(db: Queryable, sandboxId: string): Promise<OpenExec[]> {
  const { rows } = await db.query<OpenExec>(OF_SANDBOX, [sandboxId])
  return rows
}

const NOT_STARTED = `
  select e.exec_id as "execId", e.tenant, e.sandbox_id as "sandboxId"
  from open_execs e
  join live l using (sandbox_id)
  where l.worker_id = $1 and not e.started
  order by e.exec_id
  limit $2
`

/** Execs on live sandboxes of a worker of whose start the ledger does not know yet, oldest first. */
export async function unstartedExecsOn(db: Queryable, workerId: string, limit: number): Promise<OpenExec[]> {
  const { rows } = await db.query<OpenExec>(NOT_STARTED, [workerId, limit])
  return rows
}
