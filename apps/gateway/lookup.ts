/**
 * What a caller calls a thing by: its id, the beginning of it, or (a living sandbox) its name. Another tenant's
 * things look like those that do not exist.
 */

import { type ExecId, imageScopes, isId, Rejected, type SandboxId } from '#libs/domain'
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

/** A stream by its whole id, of whatever kind it is. */
const WHOLE_ID = /^[a-z]{2}-[0-9A-HJKMNP-TV-Z]{26}$|^(command:|wk-)/

/** @throws Rejected SANDBOX_NOT_FOUND; INVALID_ARGUMENT when a prefix fits more than one */
export async function findSandboxId(db: Queryable, tenant: string, reference: string): Promise<SandboxId> {
  const found = await searchSandboxId(db, tenant, reference)
  if (found !== null) return found
  throw await noSandbox(db, tenant, reference)
}

/** @throws Rejected INVALID_ARGUMENT when a prefix fits more than one */
async function searchSandboxId(db: Queryable, tenant: string, reference: string): Promise<SandboxId | null> {
  if (isId('sb', reference)) return reference
  const named = await findClaim(db, tenant, 'sandbox-name', reference)
  if (isId('sb', named)) return named
  const byPrefix = await findByPrefix(db, SANDBOXES_BY_PREFIX, tenant, withPrefix('sb', reference))
  return isId('sb', byPrefix) ? byPrefix : null
}

/**
 * The stream that is meant by a whole id, the beginning of a sandbox's or an exec's, or a name: that of a living
 * sandbox before that of a volume before that of an image. Whether it has events is for who reads it to see.
 *
 * @throws Rejected NOT_FOUND, SANDBOX_NOT_FOUND, EXEC_NOT_FOUND; INVALID_ARGUMENT when a prefix fits more than one
 */
export async function findStream(db: Queryable, tenant: string, reference: string): Promise<string> {
  if (WHOLE_ID.test(reference)) return reference
  if (reference.startsWith('ex-')) return await findExecId(db, tenant, reference)
  const sandboxId = await searchSandboxId(db, tenant, reference)
  if (sandboxId !== null) return sandboxId
  const volumeId = await findClaim(db, tenant, 'volume-name', reference)
  if (volumeId !== null) return volumeId
  for (const scope of imageScopes(tenant)) {
    const imageId = await findClaim(db, scope, 'image-name', reference)
    if (imageId !== null) return imageId
  }
  throw await noStream(db, tenant, reference)
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
  if (events[0]?.tenant !== tenant) throw await noSandbox(db, tenant, reference)
  return events
}

/** @throws Rejected SANDBOX_NOT_FOUND */
export async function readSandbox(db: Queryable, tenant: string, reference: string): Promise<SandboxView> {
  const view = sandboxView(await sandboxEvents(db, tenant, reference))
  if (view === null) throw await noSandbox(db, tenant, reference)
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

async function noSandbox(db: Queryable, tenant: string, reference: string): Promise<Rejected> {
  const hint = (await namedBefore(db, tenant, reference)) ?? 'see `sandtrail ps --all`'
  return new Rejected('SANDBOX_NOT_FOUND', `no sandbox has the id or name ${shown(reference)}`, { hint })
}

async function noStream(db: Queryable, tenant: string, reference: string): Promise<Rejected> {
  const hint =
    (await namedBefore(db, tenant, reference)) ??
    'give the name of a living sandbox, a volume or an image, or an id: see `sandtrail ps --all`'
  return new Rejected('NOT_FOUND', `nothing has the id or name ${shown(reference)}`, { hint })
}

const NEWEST_BY_NAME = `
  select sandbox_id as id
  from sandboxes
  where tenant = $1 and name = $2 and state = 'ended'
  order by sandbox_id desc
  limit 1
`

/** A name is free again once its sandbox has ended; who still says it most likely means that one. */
async function namedBefore(db: Queryable, tenant: string, name: string): Promise<string | null> {
  const { rows } = await db.query<{ id: string }>(NEWEST_BY_NAME, [tenant, name])
  if (rows[0] === undefined) return null
  return `the last one called so was ${rows[0].id}, which has ended: use its id`
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
