import { Api, path } from '../api.js'
import { parseMoment } from '../options.js'
import { ago, chooseFormat, type Format, plain, printJson, printLine, printTable, short } from '../print.js'
import type { Event, Exec, Sandbox } from '../types.js'
import { printEvents } from './history.js'

/** Events shown; `history` has all. */
const NEWEST = 10
/** Characters of one field: two lines of a usual terminal. */
const FIELD_SHOWN_MAX = 140

export async function describe(reference: string, flags: { at?: string; output?: Format }): Promise<void> {
  const format = chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const at = flags.at === undefined ? undefined : parseMoment(flags.at, new Date())
  const sandbox = await api.json<Sandbox>('GET', path`/v1/sandboxes/${reference}`, { query: { at } })
  const { sandboxId } = sandbox
  const [{ events }, { execs }] = await Promise.all([
    api.json<{ events: Event[] }>('GET', path`/v1/sandboxes/${sandboxId}/history`, { query: { at } }),
    api.json<{ execs: Exec[] }>('GET', path`/v1/sandboxes/${sandboxId}/execs`),
  ])
  api.close()
  if (format === 'json') printJson({ ...sandbox, execs, events })
  else show(sandbox, execs, events)
}

function show(sandbox: Sandbox, execs: Exec[], events: Event[]): void {
  const { execs: _, events: __, ...fields } = sandbox as Sandbox & { execs?: unknown; events?: unknown }
  for (const [name, value] of Object.entries(fields)) {
    if (value === null) continue
    const text = typeof value === 'string' ? value : JSON.stringify(value)
    printLine(`${name.padEnd(16)}  ${plain(short(text, FIELD_SHOWN_MAX))}`)
  }
  if (execs.length > 0) {
    printLine('\nExecs')
    const now = new Date()
    printTable(
      ['EXEC', 'STATE', 'EXIT', 'REQUESTED', 'COMMAND'],
      execs.map((exec) => [
        exec.execId,
        exec.state,
        exec.exitCode === null ? '-' : String(exec.exitCode),
        ago(exec.requestedAt, now),
        short(exec.argv.join(' ')),
      ]),
    )
  }
  printLine(events.length > NEWEST ? `\nThe newest ${NEWEST} of ${events.length} events` : '\nEvents')
  printEvents(events.slice(-NEWEST))
}
