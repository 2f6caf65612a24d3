import { result, type Statements } from './statement.js'

const keyOf = (tenant: unknown, id: unknown) => JSON.stringify([tenant, id])

export const commands: Statements = [
  [
    /insert into commands/,
    ({ server, tx, values }) => {
      const [tenant, command_id, verb, hash, outcome, rejected, attempt, expires] = values
      if (Date.parse(String(expires)) <= server.env.wallMs()) return result([], 0)
      const { commands } = server.tables
      const key = keyOf(tenant, command_id)
      tx.lock(commands, key)
      if (tx.get(commands, key)) return result([], 0)
      const row = {
        tenant,
        command_id,
        verb,
        hash,
        outcome: JSON.parse(String(outcome)),
        rejected,
        attempt,
        expires,
      }
      tx.put(commands, key, row)
      return result([], 1)
    },
  ],
  [
    /select hash, outcome, rejected, attempt/,
    ({ server, tx, values: [tenant, id] }) => {
      const row = tx.get(server.tables.commands, keyOf(tenant, id))
      return result(row ? [row] : [])
    },
  ],
  // Nothing is old enough within a run.
  [/delete from commands/, () => result([], 0)],
]
