import type { Postgres } from '../server.js'
import type { Transaction } from '../tables.js'
import { result, type Statements, type Step } from './statement.js'

interface ToSet {
  key: string
  afterMs: number
  kind: string
  payload: object
}

function set(server: Postgres, tx: Transaction, tenant: unknown, given: ToSet[]): void {
  const { timers } = server.tables
  for (const { key } of given) tx.lock(timers, key)
  for (const { key, afterMs, kind, payload } of given) {
    const generation = server.nextval('timers_generation')
    const due = server.env.wallMs() + afterMs
    tx.put(timers, key, { key, tenant, generation, due, kind, payload, attempts: 0 })
  }
}

function consume(server: Postgres, tx: Transaction, refs: { key: string; generation: string }[]): void {
  const { timers } = server.tables
  for (const { key, generation } of refs) {
    const isMeant = () => String(tx.get(timers, key)?.generation) === generation
    if (!isMeant()) continue
    tx.lock(timers, key)
    if (isMeant()) tx.put(timers, key, null)
  }
}

export const changeTimers: Step = (
  { server, tx },
  { tenant, cancel = [], consume: refs = [], set: toSet = [] },
) => {
  const { timers } = server.tables
  const there = cancel.filter((key: string) => tx.get(timers, key))
  for (const key of there) tx.lock(timers, key)
  for (const key of there) tx.put(timers, key, null)
  consume(server, tx, refs)
  set(server, tx, tenant, toSet)
  return null
}

export const timers: Statements = [
  [
    /insert into timers/,
    ({ server, tx, values: [tenant, json] }) => {
      const given = JSON.parse(String(json)) as ToSet[]
      set(server, tx, tenant, given)
      return result([], given.length)
    },
  ],
  [
    /delete from timers\s+where \(key, generation\)/,
    ({ server, tx, values: [keys, generations] }) => {
      const refs = (keys as string[]).map((key, i) => ({ key, generation: (generations as string[])[i]! }))
      consume(server, tx, refs)
      return result([])
    },
  ],
  [
    /update timers t\s+set due = clock_timestamp\(\) \+ \$3/,
    ({ server, tx, values: [kinds, limit, leaseMs] }) => {
      const { timers } = server.tables
      const now = server.env.wallMs()
      const due = tx
        .scan(timers)
        .filter((row) => Number(row.due) <= now && (kinds as unknown[]).includes(row.kind))
        .sort((a, b) => Number(a.due) - Number(b.due))
        .filter((row) => tx.tryLock(timers, String(row.key)))
        .slice(0, Number(limit))
      return result(
        due.map((row) => {
          const attempts = Number(row.attempts) + 1
          tx.put(timers, String(row.key), { ...row, due: now + Number(leaseMs), attempts })
          const { key, generation, tenant, kind, payload } = row
          return {
            key,
            generation: String(generation),
            tenant,
            kind,
            payload,
            due: new Date(Number(row.due)),
            attempts,
          }
        }),
      )
    },
  ],
  [
    /min\(due\) - clock_timestamp\(\)/,
    ({ server, tx, values: [kinds] }) => {
      const dues = tx
        .scan(server.tables.timers)
        .filter((row) => (kinds as unknown[]).includes(row.kind))
        .map((row) => Number(row.due))
      return result([{ ms: dues.length === 0 ? null : Math.min(...dues) - server.env.wallMs() }])
    },
  ],
  [
    /update timers\s+set due/,
    ({ server, tx, values: [key, generation, ms] }) => {
      const { timers } = server.tables
      const isMeant = () => String(tx.get(timers, String(key))?.generation) === generation
      if (!isMeant()) return result([], 0)
      tx.lock(timers, String(key))
      const row = tx.get(timers, String(key))
      if (row === undefined || !isMeant()) return result([], 0)
      tx.put(timers, String(key), { ...row, due: server.env.wallMs() + Number(ms) })
      return result([], 1)
    },
  ],
]
