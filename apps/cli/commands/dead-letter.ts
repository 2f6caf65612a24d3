import { Api, path } from '../api.js'
import { ago, chooseFormat, type Format, printJson, printLine, printTable } from '../print.js'

interface DeadLetter {
  seq: number
  subject: string
  tenant: string | null
  commandId: string | null
  deadAt: string | null
  deliveries: number | null
  reason: string
}

export async function listDeadLetters(flags: { output?: Format }): Promise<void> {
  const format = chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const all: DeadLetter[] = []
  for (let after: number | null = 0; after !== null; ) {
    const page: { deadLetters: DeadLetter[]; next: number | null } = await api.json(
      'GET',
      '/v1/dead-letters',
      {
        query: { after },
      },
    )
    all.push(...page.deadLetters)
    after = page.next
  }
  api.close()
  if (format === 'json') return printJson(all)
  const now = new Date()
  printTable(
    ['NUMBER', 'DEAD', 'TENANT', 'SUBJECT', 'COMMAND', 'REASON'],
    all.map(({ seq, deadAt, tenant, subject, commandId, reason }) => [
      String(seq),
      ago(deadAt, now),
      tenant ?? '-',
      subject,
      commandId ?? '-',
      reason,
    ]),
  )
}

export async function showDeadLetter(seq: string): Promise<void> {
  const api = Api.fromEnvironment()
  printJson(await api.json<object>('GET', path`/v1/dead-letters/${seq}`))
  api.close()
}

export async function redriveDeadLetters(seqs: readonly string[]): Promise<void> {
  const api = Api.fromEnvironment()
  for (const seq of seqs) {
    await api.json('POST', `${path`/v1/dead-letters/${seq}`}/redrive`)
    printLine(seq)
  }
  api.close()
}

export async function removeDeadLetters(seqs: readonly string[]): Promise<void> {
  const api = Api.fromEnvironment()
  for (const seq of seqs) {
    await api.json('DELETE', path`/v1/dead-letters/${seq}`)
    printLine(seq)
  }
  api.close()
}
