import type { Row } from '../tables.js'
import { result, type Statements } from './statement.js'

const asSelected = (row: Row) => ({ execId: row.exec_id, tenant: row.tenant, sandboxId: row.sandbox_id })
const byExec = (a: Row, b: Row) => (String(a.exec_id) < String(b.exec_id) ? -1 : 1)

export const openExecs: Statements = [
  [
    /insert into open_execs/,
    ({ server, tx, values: [exec_id, tenant, sandbox_id] }) => {
      const { openExecs } = server.tables
      tx.lock(openExecs, String(exec_id))
      if (tx.get(openExecs, String(exec_id))) return result([], 0)
      tx.put(openExecs, String(exec_id), { exec_id, tenant, sandbox_id, started: false })
      return result([], 1)
    },
  ],
  [
    /update open_execs\s+set started = true/,
    ({ server, tx, values: [id] }) => {
      const { openExecs } = server.tables
      if (!tx.get(openExecs, String(id))) return result([], 0)
      tx.lock(openExecs, String(id))
      tx.put(openExecs, String(id), { ...tx.get(openExecs, String(id)), started: true })
      return result([], 1)
    },
  ],
  [
    /delete from open_execs/,
    ({ server, tx, values: [id] }) => {
      const { openExecs } = server.tables
      if (!tx.get(openExecs, String(id))) return result([], 0)
      tx.lock(openExecs, String(id))
      tx.put(openExecs, String(id), null)
      return result([], 1)
    },
  ],
  [
    /from open_execs\s+where sandbox_id = \$1/,
    ({ server, tx, values: [sandboxId] }) => {
      const rows = tx.scan(server.tables.openExecs).filter((row) => row.sandbox_id === sandboxId)
      return result(rows.sort(byExec).map(asSelected))
    },
  ],
  [
    /from open_execs e\s+join live l/,
    ({ server, tx, values: [workerId, limit] }) => {
      const rows = tx
        .scan(server.tables.openExecs)
        .filter(
          (row) => !row.started && tx.get(server.tables.live, String(row.sandbox_id))?.worker_id === workerId,
        )
      return result(rows.sort(byExec).slice(0, Number(limit)).map(asSelected))
    },
  ],
]
