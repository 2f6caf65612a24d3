/** The list of sandboxes, living and ended, for whoever filters and pages. One sandbox's truth is its stream. */

import { SANDBOX_TERMINAL_EVENTS, type SandboxEvent, type SandboxSpec } from '#libs/domain'
import type { Queryable, Transaction } from '../database.js'
import type { Projection } from '../projection.js'
import type { RecordedEvent } from '../types.js'

export const sandboxesProjection: Projection = {
  name: 'sandboxes',
  tables: ['sandboxes'],
  types: [
    'SandboxCreated',
    'SandboxPlaced',
    'SandboxStarted',
    'SandboxStopRequested',
    ...SANDBOX_TERMINAL_EVENTS,
  ],
  apply,
}

async function apply(tx: Transaction, recorded: RecordedEvent): Promise<void> {
  const event = recorded as unknown as SandboxEvent
  switch (event.type) {
    case 'SandboxCreated':
      return create(tx, recorded, event.data.spec)
    case 'SandboxPlaced':
      return change(tx, recorded, {
        state: 'starting',
        worker_id: event.data.workerId,
        epoch: event.data.epoch,
      })
    case 'SandboxStarted':
      return start(tx, recorded)
    case 'SandboxStopRequested':
      return change(tx, recorded, { state: 'stopping' })
    case 'SandboxFinished':
    case 'SandboxTerminated':
    case 'SandboxTimedOut':
    case 'SandboxFailed':
    case 'SandboxLost':
      return change(tx, recorded, {
        state: 'ended',
        ended_at: recorded.at,
        terminal_event: event.type,
        exit_code: event.type === 'SandboxLost' ? null : event.data.exitCode,
        reason: reasonOf(event),
      })
  }
}

const CREATE = `
  insert into sandboxes (sandbox_id, tenant, state, name, tags, image_id, image_ref, created_at, position)
  values ($1, $2, 'created', $3, $4, $5, $6, $7, $8)
`

async function create(tx: Transaction, recorded: RecordedEvent, spec: SandboxSpec): Promise<void> {
  const { stream, tenant, at, position } = recorded
  const { name, tags, image } = spec
  const values = [stream, tenant, name, JSON.stringify(tags), image.imageId, image.ref, at, String(position)]
  await tx.query({ name: 'sandboxes-create', text: CREATE, values })
}

const START = `
  -- A start that was under way when the stop was asked for does not make it running again.
  update sandboxes
  set state = case state when 'stopping' then state else 'running' end, started_at = $2, position = $3
  where sandbox_id = $1
`

async function start(tx: Transaction, { stream, at, position }: RecordedEvent): Promise<void> {
  await tx.query({ name: 'sandboxes-start', text: START, values: [stream, at, String(position)] })
}

const CHANGE = `
  update sandboxes
  set state = $3,
      worker_id = coalesce($4, worker_id),
      epoch = coalesce($5, epoch),
      ended_at = coalesce($6, ended_at),
      terminal_event = coalesce($7, terminal_event),
      exit_code = coalesce($8, exit_code),
      reason = coalesce($9, reason),
      position = $2
  where sandbox_id = $1
`

interface Change {
  state: string
  worker_id?: string
  epoch?: number
  ended_at?: Date
  terminal_event?: string
  exit_code?: number | null
  reason?: string | null
}

async function change(tx: Transaction, { stream, position }: RecordedEvent, to: Change): Promise<void> {
  const { state, worker_id, epoch, ended_at, terminal_event, exit_code, reason } = to
  const values = [
    stream,
    String(position),
    state,
    worker_id,
    epoch,
    ended_at,
    terminal_event,
    exit_code,
    reason,
  ]
  await tx.query({ name: 'sandboxes-change', text: CHANGE, values: values.map((value) => value ?? null) })
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
  select sandbox_id as "sandboxId", state, name, tags, image_id as "imageId", image_ref as image,
         worker_id as "workerId", epoch, created_at as "createdAt", started_at as "startedAt", ended_at as "endedAt",
         terminal_event as "terminalEvent", exit_code as "exitCode", reason
  from sandboxes
  where tenant = $1
    and ($2::text[] is null or state = any($2))
    and tags @> $3::jsonb
    and ($4::text is null or name = $4)
    and ($5::text is null or sandbox_id < $5)
  order by sandbox_id desc
  limit $6
`

export interface ListSandboxes {
  tenant: string
  states?: string[] | undefined
  /** All of these, with these values. */
  tags?: Record<string, string> | undefined
  name?: string | undefined
  limit?: number | undefined
  /** `nextCursor` of the page before. */
  cursor?: string | undefined
}

/** Newest first, at most `limit` (100). `nextCursor` is null on the last page. */
export async function listSandboxes(
  db: Queryable,
  { tenant, states, tags = {}, name, limit = 100, cursor }: ListSandboxes,
): Promise<{ sandboxes: SandboxRow[]; nextCursor: string | null }> {
  // One more than asked for tells whether there is a next page.
  const values = [tenant, states ?? null, JSON.stringify(tags), name ?? null, cursor ?? null, limit + 1]
  const { rows } = await db.query<SandboxRow>(LIST, values)
  const sandboxes = rows.slice(0, limit)
  return { sandboxes, nextCursor: rows.length > limit ? (sandboxes.at(-1)?.sandboxId ?? null) : null }
}
