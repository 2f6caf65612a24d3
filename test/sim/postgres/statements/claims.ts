import { result, type Statements } from './statement.js'

interface Given {
  kind: string
  key: string
  holder: string
}

const keyOf = (tenant: unknown, kind: unknown, key: unknown) => JSON.stringify([tenant, kind, key])

export const claims: Statements = [
  [
    /delete from claims/,
    ({ server, tx, values: [tenant, json] }) => {
      const { claims } = server.tables
      let gone = 0
      for (const { kind, key, holder } of JSON.parse(String(json)) as Given[]) {
        const at = keyOf(tenant, kind, key)
        if (tx.get(claims, at)?.holder !== holder) continue
        tx.lock(claims, at)
        if (tx.get(claims, at)?.holder !== holder) continue
        tx.put(claims, at, null)
        gone++
      }
      return result([], gone)
    },
  ],
  [
    /insert into claims/,
    ({ server, tx, values: [tenant, json] }) => {
      const { claims } = server.tables
      const taken: object[] = []
      for (const { kind, key, holder } of JSON.parse(String(json)) as Given[]) {
        const at = keyOf(tenant, kind, key)
        tx.lock(claims, at)
        const known = tx.get(claims, at)
        if (known !== undefined && known.holder !== holder) continue
        tx.put(claims, at, { tenant, kind, key, holder })
        taken.push({ kind, key })
      }
      return result(taken)
    },
  ],
  [
    /select c\.kind, c\.key\s+from claims c\s+join[\s\S]+for share of c/,
    ({ server, tx, values: [tenant, json] }) => {
      const { claims } = server.tables
      const held: object[] = []
      for (const { kind, key, holder } of JSON.parse(String(json)) as Given[]) {
        const at = keyOf(tenant, kind, key)
        if (tx.get(claims, at)?.holder !== holder) continue
        tx.lock(claims, at, 'shared')
        if (tx.get(claims, at)?.holder === holder) held.push({ kind, key })
      }
      return result(held)
    },
  ],
  [
    /select holder\s+from claims/,
    ({ server, tx, values: [tenant, kind, key] }) => {
      const row = tx.get(server.tables.claims, keyOf(tenant, kind, key))
      return result(row ? [{ holder: row.holder }] : [])
    },
  ],
]
