import { result, type Statements } from './statement.js'

interface Given {
  id: string
  hash: string
  expires_at: string
}

const keyOf = (tenant: unknown, id: unknown) => JSON.stringify([tenant, id])

export const commands: Statements = [
  [
    /insert into commands/,
    ({ server, tx, values: [tenant, json] }) => {
      const { commands } = server.tables
      const given = (JSON.parse(String(json)) as Given[]).filter(
        ({ expires_at }) => Date.parse(expires_at) > server.env.wallMs(),
      )
      for (const { id } of given) tx.lock(commands, keyOf(tenant, id))
      const fresh = given.filter(({ id }) => !tx.get(commands, keyOf(tenant, id)))
      for (const { id, hash, ...row } of fresh) {
        tx.put(commands, keyOf(tenant, id), {
          ...row,
          tenant,
          command_id: id,
          hash: Buffer.from(hash, 'hex'),
        })
      }
      return result([], fresh.length)
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
