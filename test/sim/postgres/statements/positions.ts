import { lastPositionOf } from './ledger.js'
import { type Call, result, type Statements } from './statement.js'

/** cursors or projections, as the text says. */
const tableIn = ({ server }: Call, text: 'cursors' | 'projections') => server.tables[text]

function of(table: 'cursors' | 'projections'): Statements {
  return [
    [
      new RegExp(`insert into ${table} \\(name\\) values`),
      (call) => {
        const { tx, values } = call
        const rows = tableIn(call, table)
        const name = String(values[0])
        if (tx.get(rows, name)) return result([], 0)
        tx.lock(rows, name)
        if (tx.get(rows, name)) return result([], 0)
        tx.put(rows, name, { name, position: 0, at: call.server.nextval('touched') })
        return result([], 1)
      },
    ],
    [
      new RegExp(`select position >= [\\s\\S]+ as at_end from ${table} where name`),
      (call) => {
        const { server, tx, values } = call
        const row = tx.get(tableIn(call, table), String(values[0]))
        return result(row ? [{ at_end: Number(row.position) >= lastPositionOf(server) }] : [])
      },
    ],
    [
      new RegExp(`select position as "from",[\\s\\S]+from ${table}\\s+where name = \\$1`),
      (call) => {
        const { server, tx, values } = call
        const rows = tableIn(call, table)
        const name = String(values[0])
        if (!tx.get(rows, name) || !tx.tryLock(rows, name)) return result([])
        const from = Number(tx.get(rows, name)!.position)
        const until = Math.max(from, Math.min(from + Number(values[1]), lastPositionOf(server)))
        return result([{ from: String(from), until: String(until) }])
      },
    ],
    [
      new RegExp(`update ${table} set position = \\$2`),
      (call) => {
        const { tx, values } = call
        const rows = tableIn(call, table)
        const name = String(values[0])
        tx.lock(rows, name)
        const at = call.server.nextval('touched')
        tx.put(rows, name, { name, position: Number(values[1]), at })
        return result([], 1)
      },
    ],
  ]
}

export const positions: Statements = [
  ...of('cursors'),
  ...of('projections'),
  [
    /insert into cursors as c \(name, position\)/,
    ({ server, tx, values: [name, position] }) => {
      const { cursors } = server.tables
      tx.lock(cursors, String(name))
      const known = tx.get(cursors, String(name))
      if (known && Number(known.position) >= Number(position)) return result([], 0)
      tx.put(cursors, String(name), { name, position: Number(position), at: server.nextval('touched') })
      return result([], 1)
    },
  ],
  [
    /^\s*select position\s+from cursors\s+where name = \$1\s*$/,
    ({ server, tx, values: [name] }) => {
      const row = tx.get(server.tables.cursors, String(name))
      return result(row ? [{ position: String(row.position) }] : [])
    },
  ],
  [
    /with made as \(\s+insert into cursors/,
    ({ server, tx, values: [name] }) => {
      const { cursors } = server.tables
      if (!tx.get(cursors, String(name))) {
        tx.lock(cursors, String(name))
        if (!tx.get(cursors, String(name))) {
          tx.put(cursors, String(name), { name, position: 0, at: server.nextval('touched') })
        }
      }
      const row = tx.get(cursors, String(name))!
      return result([{ position: String(row.position), at: String(row.at) }])
    },
  ],
  [
    /update cursors\s+set position = \$4/,
    ({ server, tx, values: [name, position, at, to] }) => {
      const { cursors } = server.tables
      tx.lock(cursors, String(name))
      const row = tx.get(cursors, String(name))
      if (String(row?.position) !== position || String(row?.at) !== at) return result([])
      const moved = { name, position: Number(to), at: server.nextval('touched') }
      tx.put(cursors, String(name), moved)
      return result([{ position: String(moved.position), at: String(moved.at) }])
    },
  ],
  [
    /set position = least\(c\.position, \$2\)/,
    ({ server, tx, values: [name, position] }) => {
      const { cursors } = server.tables
      tx.lock(cursors, String(name))
      const known = tx.get(cursors, String(name))
      const to = known ? Math.min(Number(known.position), Number(position)) : 0
      tx.put(cursors, String(name), { name, position: to, at: server.nextval('touched') })
      return result([], 1)
    },
  ],
]
