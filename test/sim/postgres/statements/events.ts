import type { Postgres } from '../server.js'
import type { Row } from '../tables.js'
import { result, type Statements, type Step } from './statement.js'

export const keyOf = (stream: unknown, version: unknown) => JSON.stringify([stream, version])

/** An event with its position, as every reader selects it. */
function placed(server: Postgres, event: Row): Row {
  const entry = server.tables.ledger.rows.get(String(event.seq))
  return { ...event, at: new Date(Number(event.at)), position: entry ? String(entry.position) : null }
}

export const insertEvents: Step = ({ server, tx }, { events: given }) => {
  const { events } = server.tables
  for (const { stream, version } of given) tx.lock(events, keyOf(stream, version))
  for (const event of given) {
    const { stream, version, eventId, typeVersion, sealed, prevHash, hash, v, ...same } = event
    if (tx.get(events, keyOf(stream, version))) return { outcome: 'conflict', stream }
    tx.put(events, keyOf(stream, version), {
      ...same,
      stream,
      version,
      event_id: eventId,
      type_version: typeVersion,
      at: Date.parse(String(event.at)),
      sealed: sealed === null ? null : Buffer.from(sealed, 'base64'),
      prev_hash: Buffer.from(prevHash, 'hex'),
      hash: Buffer.from(hash, 'hex'),
      seq: server.nextval('events_seq'),
    })
  }
  return null
}

export const events: Statements = [
  [
    /select h\.stream, h\.version, h\.hash/,
    ({ server, values: [streams] }) => {
      const heads = (streams as string[]).map((stream) => server.byStream.get(stream)?.at(-1))
      return result(heads.filter((head) => head !== undefined))
    },
  ],
  [
    /where e\.stream = \$1 and e\.version >= \$2/,
    ({ server, values: [stream, from, limit] }) => {
      const rows = (server.byStream.get(String(stream)) ?? []).filter(
        (event) => Number(event.version) >= Number(from),
      )
      return result(rows.slice(0, Number(limit)).map((event) => placed(server, event)))
    },
  ],
  [
    /from ledger l\s+cross join lateral/,
    ({ server, values: [after, until, types, known] }) => {
      const has = (list: unknown, type: unknown) => (list as unknown[]).includes(type)
      const rows: Row[] = []
      for (const entry of entriesAfter(server, Number(after))) {
        if (Number(entry.position) > Number(until)) break
        const event = server.tables.events.rows.get(keyOf(entry.stream, entry.version))!
        if (types === null || has(types, event.type) || (known !== null && !has(known, event.type)))
          rows.push({ ...placed(server, event), page_bytes: '0' })
      }
      return result(rows)
    },
  ],
]

/** Rows of the ledger in order of position. They are inserted in that order. */
export function* entriesAfter(server: Postgres, position: number): Generator<Row> {
  for (const entry of server.tables.ledger.rows.values()) if (Number(entry.position) > position) yield entry
}
