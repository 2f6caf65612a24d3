import { refusalOfMounts } from './live.js'
import { result, type Statements, type Step } from './statement.js'

interface Given {
  kind: string
  key: string
  holder: string
}

const keyOf = (tenant: unknown, kind: unknown, key: unknown) => JSON.stringify([tenant, kind, key])

export const takeClaims: Step = (call, { tenant, release = [], take = [], needed = [], unmounted }) => {
  const { server, tx } = call
  const { claims } = server.tables
  for (const { kind, key, holder } of release as Given[]) {
    const at = keyOf(tenant, kind, key)
    if (tx.get(claims, at)?.holder !== holder) continue
    tx.lock(claims, at)
    if (tx.get(claims, at)?.holder === holder) tx.put(claims, at, null)
  }
  for (const claim of take as Given[]) {
    const at = keyOf(tenant, claim.kind, claim.key)
    tx.lock(claims, at)
    const known = tx.get(claims, at)
    if (known !== undefined && known.holder !== claim.holder) return { outcome: 'claim-taken', claim }
    tx.put(claims, at, { tenant, ...claim })
  }
  for (const { kind, key, holder } of needed as Given[]) {
    const at = keyOf(tenant, kind, key)
    if (tx.get(claims, at)?.holder === holder) tx.lock(claims, at, 'shared')
    if (tx.get(claims, at)?.holder !== holder) return { outcome: 'conflict', stream: holder }
  }
  return unmounted === undefined ? null : refusalOfMounts(call, unmounted)
}

export const claims: Statements = [
  [
    /select holder\s+from claims/,
    ({ server, tx, values: [tenant, kind, key] }) => {
      const row = tx.get(server.tables.claims, keyOf(tenant, kind, key))
      return result(row ? [{ holder: row.holder }] : [])
    },
  ],
]
