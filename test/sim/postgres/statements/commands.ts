import { result, type Statements, type Step } from './statement.js'

const keyOf = (tenant: unknown, id: unknown) => JSON.stringify([tenant, id])

export const insertCommands: Step = ({ server, tx }, { tenant, commands: given }) => {
  const { commands } = server.tables
  const inTime = given.filter(
    (each: { expiresAt: string }) => Date.parse(each.expiresAt) > server.env.wallMs(),
  )
  for (const { id } of inTime) tx.lock(commands, keyOf(tenant, id))
  const fresh = inTime.filter(({ id }: { id: string }) => !tx.get(commands, keyOf(tenant, id)))
  for (const { id, hash, ...row } of fresh) {
    tx.put(commands, keyOf(tenant, id), { ...row, tenant, command_id: id, hash: Buffer.from(hash, 'hex') })
  }
  const areNew = fresh.length === given.length
  return areNew ? null : { outcome: 'duplicate' }
}

export const commands: Statements = [
  [
    // To learn whether a commit took place; rolled back.
    /insert into commands/,
    ({ server, tx, values: [tenant, id] }) => {
      const { commands } = server.tables
      tx.lock(commands, keyOf(tenant, id))
      return result([], tx.get(commands, keyOf(tenant, id)) ? 0 : 1)
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
