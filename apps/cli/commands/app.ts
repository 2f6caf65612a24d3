import { Api, path } from '../api.js'
import { ago, chooseFormat, type Format, printJson, printLine, printTable } from '../print.js'
import type { App } from '../types.js'

interface ListFlags {
  all?: boolean
  env?: string
  output?: Format
}

const PAGE = 500

export async function listApps({ all, env, output }: ListFlags): Promise<void> {
  const format = chooseFormat(output)
  const api = Api.fromEnvironment()
  const apps: App[] = []
  let cursor: string | undefined
  do {
    const query = { state: all ? undefined : 'running', environment: env, limit: PAGE, cursor }
    const page = await api.json<{ apps: App[]; nextCursor: string | null }>('GET', '/v1/apps', { query })
    apps.push(...page.apps)
    cursor = page.nextCursor ?? undefined
  } while (cursor !== undefined)
  api.close()
  if (format === 'json') {
    printJson(apps)
    return
  }
  const now = new Date()
  printTable(
    ['APP', 'NAME', 'ENVIRONMENT', 'KIND', 'STATE', 'SANDBOXES', 'CREATED', 'DESCRIPTION'],
    apps.map((app) => [
      app.appId,
      app.name ?? '-',
      app.environment,
      app.kind,
      app.state,
      String(app.sandboxes),
      ago(app.createdAt, now),
      app.description,
    ]),
  )
}

/** Prints its id when the stop is committed; its sandboxes end by themselves then. */
export async function stopApp(reference: string, { env }: { env?: string }): Promise<void> {
  const api = Api.fromEnvironment()
  const query = { environment: env }
  const to = path`/v1/apps/${reference}/stop`
  const { appId } = await api.json<{ appId: string }>('POST', to, { query, command: true })
  printLine(appId)
  api.close()
}
