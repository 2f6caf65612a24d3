import type { Postgres } from '../server.js'
import type { Row, Transaction } from '../tables.js'
import { type Call, result, type Statements, type Step } from './statement.js'

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

function mountingOf(server: Postgres, tx: Transaction, volumeId: unknown): Row[] {
  const mounts = ({ sandbox_id }: Row) => {
    const { spec } = (server.byStream.get(String(sandbox_id))?.[0]?.data ?? {}) as Mounting
    return spec?.volumes?.some((volume) => volume.volumeId === volumeId)
  }
  return tx.scan(server.tables.live).filter(mounts)
}

interface Wanted {
  workerId?: string
  epoch?: number
  open?: boolean
}

function fenceOf(row: Row | undefined, { workerId, epoch, open }: Wanted): object | null {
  const fenced = (reason: string) => ({ outcome: 'fenced', reason })
  if (row === undefined) return fenced('absent')
  if (workerId !== undefined && workerId !== row.worker_id) return fenced('epoch')
  if (epoch !== undefined && epoch !== row.epoch) return fenced('epoch')
  return open && row.state === 'closing' ? fenced('closing') : null
}

export const changeLive: Step = ({ server, tx }, { tenant, require = [], live: changes = [] }) => {
  const { live } = server.tables
  const own = (id: string, mode: 'exclusive' | 'shared') => {
    if (tx.get(live, id)) tx.lock(live, id, mode)
    const row = tx.get(live, id)
    return row?.tenant === tenant ? row : undefined
  }
  for (const id of require.map(({ sandboxId }: { sandboxId: string }) => sandboxId).sort()) own(id, 'shared')
  for (const wanted of require) {
    const refusal = fenceOf(own(wanted.sandboxId, 'shared'), wanted)
    if (refusal !== null) return refusal
  }
  for (const { action, sandboxId, workerId, epoch } of changes) {
    if (action === 'open') {
      tx.lock(live, sandboxId)
      if (tx.get(live, sandboxId)) return { outcome: 'fenced', reason: 'epoch' }
      tx.put(live, sandboxId, { sandbox_id: sandboxId, tenant, worker_id: workerId, epoch, state: 'open' })
      continue
    }
    const row = own(sandboxId, 'exclusive')
    const refusal = fenceOf(row, action === 'close' ? { workerId, epoch } : {})
    if (refusal !== null) return refusal
    tx.put(live, sandboxId, action === 'close' ? null : { ...row, state: 'closing' })
  }
  return null
}

/** Asked once the claims are given up. */
export function refusalOfMounts({ server, tx }: Call, volumeId: unknown): object | null {
  return mountingOf(server, tx, volumeId).length > 0 ? { outcome: 'conflict', stream: volumeId } : null
}

export const live: Statements = [
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
    ({ server, tx, values: [volumeId] }) => result(mountingOf(server, tx, volumeId)),
  ],
  [
    /from live\s+where sandbox_id = \$1\s*$/,
    ({ server, tx, values: [id] }) => {
      const row = tx.get(server.tables.live, String(id))
      return result(row ? [asSelected(row)] : [])
    },
  ],
]
