import type { Row } from '../tables.js'
import { result, type Statements } from './statement.js'

interface Mounting {
  spec?: { volumes?: { volumeId: string }[] }
}

const asSelected = (row: Row) => ({
  sandboxId: row.sandbox_id,
  tenant: row.tenant,
  workerId: row.worker_id,
  epoch: row.epoch,
  state: row.state,
})

export const live: Statements = [
  [
    /insert into live/,
    ({ server, tx, values: [sandbox_id, tenant, worker_id, epoch] }) => {
      const { live } = server.tables
      tx.lock(live, String(sandbox_id))
      if (tx.get(live, String(sandbox_id))) return result([], 0)
      tx.put(live, String(sandbox_id), { sandbox_id, tenant, worker_id, epoch, state: 'open' })
      return result([], 1)
    },
  ],
  [
    /select sandbox_id, worker_id, epoch, state\s+from live[\s\S]+for share/,
    ({ server, tx, values: [ids, tenant] }) => {
      const { live } = server.tables
      const there = (ids as string[]).filter((id) => tx.get(live, id)).sort()
      for (const id of there) tx.lock(live, id, 'shared')
      const rows = there.map((id) => tx.get(live, id)).filter((row) => row?.tenant === tenant)
      return result(rows as object[])
    },
  ],
  [
    /update live\s+set state = 'closing'/,
    ({ server, tx, values: [id, tenant] }) => {
      const { live } = server.tables
      if (tx.get(live, String(id))) tx.lock(live, String(id))
      const row = tx.get(live, String(id))
      if (row?.tenant !== tenant) return result([], 0)
      tx.put(live, String(id), { ...row, state: 'closing' })
      return result([], 1)
    },
  ],
  [
    /delete from live/,
    ({ server, tx, values: [id, tenant] }) => {
      const { live } = server.tables
      if (tx.get(live, String(id))) tx.lock(live, String(id))
      const row = tx.get(live, String(id))
      if (row?.tenant !== tenant) return result([])
      tx.put(live, String(id), null)
      return result([row as object])
    },
  ],
  [
    /from live\s+where worker_id = \$1\s+order by sandbox_id/,
    ({ server, tx, values: [workerId] }) => {
      const rows = tx.scan(server.tables.live).filter((row) => row.worker_id === workerId)
      return result(rows.map(asSelected).sort((a, b) => (String(a.sandboxId) < String(b.sandboxId) ? -1 : 1)))
    },
  ],
  [
    /from live\s+where worker_id in \(select worker_id from workers where state = 'lost'\)/,
    ({ server, tx }) => {
      const isLost = (id: unknown) => tx.get(server.tables.workers, String(id))?.state === 'lost'
      const rows = tx.scan(server.tables.live).filter((row) => isLost(row.worker_id))
      const rank = (row: Row) => `${row.worker_id} ${row.sandbox_id}`
      return result(rows.sort((a, b) => (rank(a) < rank(b) ? -1 : 1)).map(asSelected))
    },
  ],
  [
    /select l\.sandbox_id\s+from live l\s+join events e/,
    ({ server, tx, values: [volumeId] }) => {
      const mounts = ({ sandbox_id }: Row) => {
        const { spec } = (server.byStream.get(String(sandbox_id))?.[0]?.data ?? {}) as Mounting
        return spec?.volumes?.some((volume) => volume.volumeId === volumeId)
      }
      return result(tx.scan(server.tables.live).filter(mounts))
    },
  ],
  [
    /from live\s+where sandbox_id = \$1\s*$/,
    ({ server, tx, values: [id] }) => {
      const row = tx.get(server.tables.live, String(id))
      return result(row ? [asSelected(row)] : [])
    },
  ],
]
