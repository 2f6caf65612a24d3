import type { Postgres } from '../server.js'
import type { Row } from '../tables.js'
import { entriesAfter } from './events.js'
import { result, type Statements } from './statement.js'

export const lastPositionOf = (server: Postgres) =>
  Number([...server.tables.ledger.rows.values()].at(-1)?.position ?? 0)

export const ledger: Statements = [
  [
    /update sequencer\s+set term = term \+ 1/,
    ({ server, tx, values: [leader, lossMs] }) => {
      const { sequencer } = server.tables
      tx.lock(sequencer, 'one')
      const row = tx.get(sequencer, 'one')!
      const now = server.env.wallMs()
      if (row.leader !== leader && Number(row.heartbeat_at) >= now - Number(lossMs)) return result([])
      const next = { ...row, term: Number(row.term) + 1, leader, heartbeat_at: now } as Row
      tx.put(sequencer, 'one', next)
      return result([{ term: String(next.term), position: String(next.position), floor: String(next.floor) }])
    },
  ],
  [
    /update sequencer\s+set leader = null/,
    ({ server, tx, values: [term] }) => {
      const { sequencer } = server.tables
      tx.lock(sequencer, 'one')
      const row = tx.get(sequencer, 'one')!
      if (String(row.term) !== term) return result([], 0)
      tx.put(sequencer, 'one', { ...row, leader: null, heartbeat_at: Number.NEGATIVE_INFINITY })
      return result([], 1)
    },
  ],
  [
    /with pending as materialized/,
    ({ server, tx, values: [term, position, floor, limit] }) => {
      const { sequencer, ledger } = server.tables
      const pending = [...server.unplaced.values()]
        .filter((event) => Number(event.seq) > Number(floor))
        .sort((a, b) => Number(a.seq) - Number(b.seq))
        .slice(0, Number(limit))
      tx.lock(sequencer, 'one')
      const lead = tx.get(sequencer, 'one')!
      if (String(lead.term) !== term || Number(lead.position) !== Number(position)) return result([])
      const moved = { heartbeat_at: server.env.wallMs(), position: Number(position) + pending.length }
      tx.put(sequencer, 'one', { ...lead, ...moved, floor: Number(floor) })
      const common = { xmin: String(server.xmin(tx)), xid: String(tx.xid) }
      const empty = { position: null, seq: null, stream: null, version: null, hash: null }
      if (pending.length === 0) return result([{ ...empty, ...common }])
      return result(
        pending.map(({ seq, stream, version, hash }, i) => {
          const at = Number(position) + i + 1
          // By seq: that is how readers join it.
          tx.put(ledger, String(seq), { position: at, seq, stream, version, hash, term })
          const hex = (hash as Buffer).toString('hex')
          return { position: String(at), seq: String(seq), stream, version, hash: hex, ...common }
        }),
      )
    },
  ],
  [
    /select position, stream, version, encode\(hash, 'hex'\) as hash\s+from ledger/,
    ({ server, values: [after, limit] }) => {
      const rows: object[] = []
      for (const { position, stream, version, hash } of entriesAfter(server, Number(after))) {
        if (rows.length === Number(limit)) break
        rows.push({ position: String(position), stream, version, hash: (hash as Buffer).toString('hex') })
      }
      return result(rows)
    },
  ],
  [
    /insert into checkpoints/,
    ({ server, tx, values: [size, root, note, frontier, term] }) => {
      const { checkpoints } = server.tables
      tx.lock(checkpoints, String(size))
      if (tx.get(checkpoints, String(size))) return result([], 0)
      tx.put(checkpoints, String(size), { size, root, note, frontier: [...(frontier as Buffer[])], term })
      return result([], 1)
    },
  ],
  [
    /select size, note, frontier\s+from checkpoints/,
    ({ server, tx }) => {
      const rows = tx.scan(server.tables.checkpoints).sort((a, b) => Number(b.size) - Number(a.size))
      return result(
        rows.slice(0, 1).map((row) => {
          // A copy: the reader goes on with it.
          return { ...row, size: String(row.size), frontier: [...(row.frontier as Buffer[])] }
        }),
      )
    },
  ],
  [
    /select coalesce\(max\(position\), 0\) as position\s+from ledger/,
    ({ server }) => result([{ position: String(lastPositionOf(server)) }]),
  ],
]
