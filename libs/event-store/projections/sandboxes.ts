/** The list of sandboxes, living and ended, for whoever filters and pages. One sandbox's truth is its stream. */

import { KNOWN_EVENTS, SANDBOX_TERMINAL_EVENTS, type SandboxEvent } from '#libs/domain'
import type { Queryable, Transaction } from '../database.js'
import type { Projection } from '../projection.js'
import type { RecordedEvent } from '../types.js'

export const sandboxesProjection: Projection = {
  name: 'sandboxes',
  tables: ['sandboxes'],
  knows: KNOWN_EVENTS,
  types: [
    'SandboxCreated',
    'SandboxPlaced',
    'SandboxStarted',
    'SandboxTagged',
    'SandboxNamed',
    'SandboxStopRequested',
    ...SANDBOX_TERMINAL_EVENTS,
  ],
  apply,
}

/** A batch at once: what the events of one sandbox change together, in one row; all rows in two statements. */
async function apply(tx: Transaction, events: RecordedEvent[]): Promise<void> {
  const rows = new Map<string, Change>()
  for (const event of events) rows.set(event.stream, follow(event, rows.get(event.stream)))
  const changes = [...rows.values()]
  const created = JSON.stringify(changes.filter((change) => change.created_at !== undefined))
  const changed = JSON.stringify(changes.filter((change) => change.created_at === undefined))
  if (created !== '[]') await tx.query({ name: 'sandboxes-create', text: CREATE, values: [created] })
  if (changed !== '[]') await tx.query({ name: 'sandboxes-change', text: CHANGE, values: [changed] })
}

/** Columns with new values; absent ones stay as they are. */
interface Change {
  sandbox_id: string
  position: string
  state?: string
  /** Of a start by itself: one that was under way when the stop was asked for does not make it running again. */
  unless_stopping?: boolean
  tenant?: string
  name?: string | null
  tags?: Record<string, string>
  app_id?: string | null
  image_id?: string
  image_ref?: string
  created_at?: Date
  worker_id?: string
  epoch?: number
  started_at?: Date
  ended_at?: Date
  terminal_event?: string
  exit_code?: number | null
  reason?: string | null
}

const COLUMNS = `
  sandbox_id text, position bigint, state text, unless_stopping boolean, tenant text, name text, tags jsonb,
  app_id text, image_id text, image_ref text, created_at timestamptz, worker_id text, epoch integer, started_at timestamptz,
  ended_at timestamptz, terminal_event text, exit_code integer, reason text
`
const CREATE = `
  insert into sandboxes (sandbox_id, tenant, state, name, tags, app_id, image_id, image_ref, created_at, worker_id,
                         epoch, started_at, ended_at, terminal_event, exit_code, reason, position)
  select sandbox_id, tenant, state, name, tags, app_id, image_id, image_ref, created_at, worker_id,
         epoch, started_at, ended_at, terminal_event, exit_code, reason, position
  from jsonb_to_recordset($1::jsonb) as c (${COLUMNS})
`
const CHANGE = `
  update sandboxes s
  set state = case when c.unless_stopping and s.state = 'stopping' then s.state else coalesce(c.state, s.state) end,
      name = coalesce(c.name, s.name),
      tags = coalesce(c.tags, s.tags),
      worker_id = coalesce(c.worker_id, s.worker_id),
      epoch = coalesce(c.epoch, s.epoch),
      started_at = coalesce(c.started_at, s.started_at),
      ended_at = coalesce(c.ended_at, s.ended_at),
      terminal_event = coalesce(c.terminal_event, s.terminal_event),
      exit_code = coalesce(c.exit_code, s.exit_code),
      reason = coalesce(c.reason, s.reason),
      position = c.position
  from jsonb_to_recordset($1::jsonb) as c (${COLUMNS})
  where s.sandbox_id = c.sandbox_id
`

function follow(recorded: RecordedEvent, earlier: Change | undefined): Change {
  const event = recorded as unknown as SandboxEvent
  const { stream: sandbox_id, tenant, at } = recorded
  const same = { ...earlier, sandbox_id, position: String(recorded.position) }
  const now = { ...same, unless_stopping: false }
  switch (event.type) {
    case 'SandboxCreated': {
      const { name, tags, appId: app_id = null, image } = event.data.spec
      const { imageId: image_id, ref: image_ref } = image
      return { ...now, state: 'created', tenant, name, tags, app_id, image_id, image_ref, created_at: at }
    }
    case 'SandboxPlaced':
      return { ...now, state: 'starting', worker_id: event.data.workerId, epoch: event.data.epoch }
    case 'SandboxStarted':
      return {
        ...now,
        state: earlier?.state === 'stopping' ? 'stopping' : 'running',
        unless_stopping: earlier?.state === undefined,
        started_at: at,
      }
    case 'SandboxTagged':
      return { ...same, tags: event.data.tags }
    case 'SandboxNamed':
      return { ...same, name: event.data.name }
    case 'SandboxStopRequested':
      return { ...now, state: 'stopping' }
    case 'SandboxFinished':
    case 'SandboxTerminated':
    case 'SandboxTimedOut':
    case 'SandboxFailed':
    case 'SandboxLost':
      return {
        ...now,
        state: 'ended',
        ended_at: at,
        terminal_event: event.type,
        exit_code: event.type === 'SandboxLost' ? null : event.data.exitCode,
        reason: reasonOf(event),
      }
    default:
      throw new Error(`the list of sandboxes does not follow ${event.type}`)
  }
}

function reasonOf(event: SandboxEvent): string | null {
  switch (event.type) {
    case 'SandboxFinished':
      return event.data.signal === null ? null : `killed by signal ${event.data.signal}`
    case 'SandboxTerminated':
      return 'terminated on request'
    case 'SandboxTimedOut':
      return event.data.reason === 'idle' ? 'idle for too long' : 'its lifetime was over'
    case 'SandboxFailed':
      return `${event.data.step}: ${event.data.message}`
    case 'SandboxLost':
      return event.data.reason
    default:
      return null
  }
}

export interface SandboxRow {
  sandboxId: string
  state: string
  name: string | null
  tags: Record<string, string>
  appId: string | null
  imageId: string
  /** What the caller named the image. */
  image: string
  workerId: string | null
  epoch: number | null
  createdAt: Date
  startedAt: Date | null
  endedAt: Date | null
  terminalEvent: string | null
  exitCode: number | null
  /** Why it ended, in words. */
  reason: string | null
}

const LIST = `
  select sandbox_id as "sandboxId", state, name, tags, app_id as "appId", image_id as "imageId",
         image_ref as image, worker_id as "workerId", epoch, created_at as "createdAt", started_at as "startedAt", ended_at as "endedAt",
         terminal_event as "terminalEvent", exit_code as "exitCode", reason
  from sandboxes
  where tenant = $1
    and ($2::text[] is null or state = any($2))
    and tags @> $3::jsonb
    and ($4::text is null or name = $4)
    and ($5::text is null or app_id = $5)
    and ($6::text is null or sandbox_id < $6)
  order by sandbox_id desc
  limit $7
`

export interface ListSandboxes {
  tenant: string
  states?: string[] | undefined
  /** All of these, with these values. */
  tags?: Record<string, string> | undefined
  name?: string | undefined
  appId?: string | undefined
  limit?: number | undefined
  /** `nextCursor` of the page before. */
  cursor?: string | undefined
}

/** Newest first, at most `limit` (100). `nextCursor` is null on the last page. */
export async function listSandboxes(
  db: Queryable,
  { tenant, states, tags = {}, name, appId, limit = 100, cursor }: ListSandboxes,
): Promise<{ sandboxes: SandboxRow[]; nextCursor: string | null }> {
  // One more than asked for tells whether there is a next page.
  const values = [
    tenant,
    states ?? null,
    JSON.stringify(tags),
    name ?? null,
    appId ?? null,
    cursor ?? null,
    limit + 1,
  ]
  const { rows } = await db.query<SandboxRow>(LIST, values)
  const sandboxes = rows.slice(0, limit)
  return { sandboxes, nextCursor: rows.length > limit ? (sandboxes.at(-1)?.sandboxId ?? null) : null }
}
