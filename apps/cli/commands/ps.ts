import { Api } from '../api.js'
import { ago, chooseFormat, type Format, printJson, printLine, printTable } from '../print.js'

interface Flags {
  all?: boolean
  quiet?: boolean
  state: string[]
  tag: string[]
  name?: string
  app?: string
  limit: number
  output?: Format
}

/** One row of the list, as the read model has it. */
interface Listed {
  sandboxId: string
  name: string | null
  state: string
  image: string
  createdAt: string
  exitCode: number | null
  tags: Record<string, string>
}

const LIVE = ['starting', 'running', 'stopping']
const PAGE = 500

export async function ps(flags: Flags): Promise<void> {
  const format = chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const state = flags.state.length > 0 ? flags.state : flags.all ? undefined : LIVE
  const sandboxes: Listed[] = []
  let cursor: string | undefined
  do {
    const limit = Math.min(PAGE, flags.limit - sandboxes.length)
    const query = { state, tag: flags.tag, name: flags.name, app: flags.app, limit, cursor }
    const page = await api.json<{ sandboxes: Listed[]; nextCursor: string | null }>('GET', '/v1/sandboxes', {
      query,
    })
    sandboxes.push(...page.sandboxes)
    cursor = page.nextCursor ?? undefined
  } while (cursor !== undefined && sandboxes.length < flags.limit)
  api.close()
  if (flags.quiet) {
    for (const { sandboxId } of sandboxes) printLine(sandboxId)
  } else if (format === 'json') {
    printJson(sandboxes)
  } else {
    const now = new Date()
    printTable(
      ['SANDBOX', 'NAME', 'STATE', 'IMAGE', 'CREATED', 'EXIT', 'TAGS'],
      sandboxes.map((sandbox) => [
        sandbox.sandboxId,
        sandbox.name ?? '-',
        sandbox.state,
        sandbox.image,
        ago(sandbox.createdAt, now),
        sandbox.exitCode === null ? '-' : String(sandbox.exitCode),
        Object.entries(sandbox.tags)
          .map(([key, value]) => `${key}=${value}`)
          .join(','),
      ]),
    )
  }
}
