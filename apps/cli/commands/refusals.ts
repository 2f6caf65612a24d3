import { Api } from '../api.js'
import { parseMoment } from '../options.js'
import { chooseFormat, type Format, printJson, printTable } from '../print.js'

interface Refusal {
  minute: string
  tenant: string | null
  actor: string | null
  code: string
  action: string
  detail: string | null
  count: number
}

interface Flags {
  all?: boolean
  since?: string
  limit: number
  output?: Format
}

/** Newest first. What happened in the last few seconds may be missing. */
export async function refusals({ all, since, limit, output }: Flags): Promise<void> {
  const format = chooseFormat(output)
  const api = Api.fromEnvironment()
  const query = { all, limit, since: since === undefined ? undefined : parseMoment(since, new Date()) }
  const { refusals: found } = await api.json<{ refusals: Refusal[] }>('GET', '/v1/refusals', { query })
  api.close()
  if (format === 'json') {
    printJson(found)
    return
  }
  printTable(
    ['MINUTE', 'TENANT', 'ACTOR', 'CODE', 'ACTION', 'DETAIL', 'COUNT'],
    found.map((each) => [
      each.minute.slice(0, 16),
      each.tenant ?? '-',
      each.actor ?? '-',
      each.code,
      each.action,
      each.detail ?? '-',
      String(each.count),
    ]),
  )
}
