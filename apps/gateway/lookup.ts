/**
 * What a caller calls a thing by: its id, the beginning of it, or (a living sandbox) its name. Another tenant's
 * things look like those that do not exist.
 */

import { type ExecId, isId, Rejected, type SandboxId } from '#libs/domain'
import { findClaim, type Queryable, type RecordedEvent, readStream } from '#libs/event-store'
import { type ExecView, execView } from './views/exec.js'
import { type SandboxView, sandboxView } from './views/sandbox.js'

/** Shorter ones would be typing errors more often than prefixes. */
const PREFIX_MIN = 4
const PREFIX = /^(sb|ex)-[0-9A-HJKMNP-TV-Z]{1,25}$/

const SANDBOXES_BY_PREFIX = `
  select sandbox_id as id
  from sandboxes
  where tenant = $1 and sandbox_id like $2 || '%'
  limit 2
`

const EXECS_BY_PREFIX = `
  select stream as id
  from events
  where tenant = $1 and stream like $2 || '%' and type = 'ExecRequested'
  limit 2
`

/** @throws Rejected SANDBOX_NOT_FOUND; INVALID_ARGUMENT when a prefix fits more than one */
export async function findSandboxId(db: Queryable, tenant: string, reference: string): Promise<SandboxId> {
  if (isId('sb', reference)) return reference
  const named = await findClaim(db, tenant, 'sandbox-name', reference)
  if (isId('sb', named)) return named
  const byPrefix = await findByPrefix(db, SANDBOXES_BY_PREFIX, tenant, withPrefix('sb', reference))
  if (isId('sb', byPrefix)) return byPrefix
  throw noSandbox(reference)
}

/** @throws Rejected EXEC_NOT_FOUND; INVALID_ARGUMENT when a prefix fits more than one */
export async function findExecId(db: Queryable, tenant: string, reference: string): Promise<ExecId> {
  if (isId('ex', reference)) return reference
  const byPrefix = await findByPrefix(db, EXECS_BY_PREFIX, tenant, withPrefix('ex', reference))
  if (isId('ex', byPrefix)) return byPrefix
  throw noExec(reference)
}

/** The events of a sandbox of this tenant. @throws Rejected SANDBOX_NOT_FOUND */
export async function sandboxEvents(
  db: Queryable,
  tenant: string,
  reference: string,
): Promise<RecordedEvent[]> {
  const events = await readStream(db, await findSandboxId(db, tenant, reference))
  if (events[0]?.tenant !== tenant) throw noSandbox(reference)
  return events
}

/** @throws Rejected SANDBOX_NOT_FOUND */
export async function readSandbox(db: Queryable, tenant: string, reference: string): Promise<SandboxView> {
  const view = sandboxView(await sandboxEvents(db, tenant, reference))
  if (view === null) throw noSandbox(reference)
  return view
}

/** The events of any stream of these tenants, by its whole id. @throws Rejected NOT_FOUND */
export async function streamEvents(
  db: Queryable,
  tenants: readonly string[],
  stream: string,
): Promise<RecordedEvent[]> {
  const events = await readStream(db, stream)
  const [first] = events
  if (first !== undefined && tenants.includes(first.tenant)) return events
  throw new Rejected('NOT_FOUND', `nothing has the id ${shown(stream)}`)
}

/** The events of an exec of this tenant. @throws Rejected EXEC_NOT_FOUND */
export async function execEvents(db: Queryable, tenant: string, reference: string): Promise<RecordedEvent[]> {
  const events = await readStream(db, await findExecId(db, tenant, reference))
  if (events[0]?.tenant !== tenant) throw noExec(reference)
  return events
}

/** @throws Rejected EXEC_NOT_FOUND */
export async function readExec(db: Queryable, tenant: string, reference: string): Promise<ExecView> {
  const view = execView(await execEvents(db, tenant, reference))
  if (view === null) throw noExec(reference)
  return view
}

function withPrefix(kind: 'sb' | 'ex', reference: string): string {
  return reference.startsWith(`${kind}-`) ? reference : `${kind}-${reference}`
}

async function findByPrefix(
  db: Queryable,
  statement: string,
  tenant: string,
  prefix: string,
): Promise<string | null> {
  if (!PREFIX.test(prefix) || prefix.length < 'sb-'.length + PREFIX_MIN) return null
  const { rows } = await db.query<{ id: string }>(statement, [tenant, prefix])
  if (rows.length > 1) {
    throw new Rejected('INVALID_ARGUMENT', `the prefix ${prefix} fits more than one`, {
      hint: 'give more characters of the id',
    })
  }
  return rows[0]?.id ?? null
}

function noSandbox(reference: string): Rejected {
  return new Rejected('SANDBOX_NOT_FOUND', `no sandbox has the id or name ${shown(reference)}`, {
    hint: 'see `sandtrail ps --all`',
  })
}

function noExec(reference: string): Rejected {
  return new Rejected('EXEC_NOT_FOUND', `no exec has the id ${shown(reference)}`, {
    hint: 'see `sandtrail describe SANDBOX` for its execs',
  })
}

/** A caller's own text comes back in the message, but not without end and not with control characters. */
function shown(reference: string): string {
  return JSON.stringify(reference.length > 80 ? `${reference.slice(0, 80)}...` : reference)
}
