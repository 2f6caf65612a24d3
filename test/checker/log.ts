/** The log as the checker reads it: every event, also those that have no position, and every stored command. */

import type { Database, EventMeta, JsonObject, Queryable } from '#libs/event-store'

export interface LoggedEvent {
  seq: bigint
  tenant: string
  stream: string
  version: number
  type: string
  typeVersion: number
  at: Date
  data: JsonObject
  meta: EventMeta
  hash: string
  position: number | null
}

export interface StoredCommand {
  tenant: string
  commandId: string
  verb: string
  rejected: boolean
  outcome: JsonObject
}

export interface Log {
  /** In the order in which they were written. */
  events: LoggedEvent[]
  commands: StoredCommand[]
  /** Of the ledger's rows, in order. */
  positions: number[]
}

const EVENTS = `
  select e.seq, e.tenant, e.stream, e.version, e.type, e.type_version as "typeVersion", e.at, e.data, e.meta,
         encode(e.hash, 'hex') as hash, l.position
  from events e
  left join ledger l on l.stream = e.stream and l.version = e.version
  order by e.seq, e.stream, e.version
`
const COMMANDS = `
  select tenant, command_id as "commandId", verb, rejected, outcome
  from commands
`
const POSITIONS = `
  select position
  from ledger
  order by position
`

/** One snapshot of all of it. */
export async function readLog(db: Database): Promise<Log> {
  const client = await db.connect()
  try {
    await client.query('begin isolation level repeatable read read only')
    return {
      events: await events(client),
      commands: await commands(client),
      positions: await positions(client),
    }
  } finally {
    await client.query('rollback')
    client.release()
  }
}

async function events(db: Queryable): Promise<LoggedEvent[]> {
  type Row = Omit<LoggedEvent, 'seq' | 'position'> & { seq: string; position: string | null }
  const { rows } = await db.query<Row>(EVENTS)
  return rows.map(({ seq, position, ...rest }) => ({
    ...rest,
    seq: BigInt(seq),
    position: position === null ? null : Number(position),
  }))
}

async function commands(db: Queryable): Promise<StoredCommand[]> {
  return (await db.query<StoredCommand>(COMMANDS)).rows
}

async function positions(db: Queryable): Promise<number[]> {
  const { rows } = await db.query<{ position: string }>(POSITIONS)
  return rows.map(({ position }) => Number(position))
}
