import { Api, path } from '../api.js'
import { usage } from '../failure.js'
import { parseMoment } from '../options.js'
import { chooseFormat, type Format, printJson, printTable, short } from '../print.js'
import { summarize } from '../summary.js'
import type { Event, Exec, Sandbox } from '../types.js'

interface Flags {
  at?: string
  output?: Format
}

/** The events of one thing; with `--at` the state that they told at that moment, of one sandbox or of the fleet. */
export async function history(reference: string | undefined, flags: Flags): Promise<void> {
  const format = chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  if (flags.at !== undefined) {
    const at = parseMoment(flags.at, new Date())
    if (reference === undefined) await showFleet(api, at, format)
    else await showPast(api, reference, at, format)
  } else if (reference === undefined) {
    throw usage('history of what?', 'name a sandbox, or give --at TIME for the whole fleet')
  } else {
    const { events } = await api.json<{ events: Event[] }>('GET', historyPath(reference))
    if (format === 'json') printJson(events)
    else printEvents(events)
  }
  api.close()
}

export function printEvents(events: Event[]): void {
  printTable(['POSITION', 'TIME', 'TYPE', 'WHAT', 'ACTOR', 'COMMAND'], events.map(eventRow))
}

export function eventRow(event: Event): string[] {
  const position = event.position === null ? '-' : String(event.position)
  return [position, event.time, event.type, short(summarize(event)), event.actor, event.commandId]
}

function historyPath(reference: string): string {
  if (/^wk-/.test(reference)) return path`/v1/workers/${reference}/history`
  return path`/v1/streams/${reference}/events`
}

async function showPast(api: Api, reference: string, at: string, format: Format): Promise<void> {
  const sandbox = await api.json<Sandbox>('GET', path`/v1/sandboxes/${reference}`, { query: { at } })
  const { sandboxId, state: status, workerId, startedAt, terminalEvent, exitCode } = sandbox
  if (format === 'json') {
    printJson({ sandboxId, at, state: { ...sandbox, state: undefined, status } })
    return
  }
  printTable(
    ['AT', 'SANDBOX', 'STATE', 'WORKER', 'STARTED', 'END', 'EXIT'],
    [
      [
        at,
        sandboxId,
        status,
        workerId ?? '-',
        startedAt ?? '-',
        terminalEvent ?? '-',
        String(exitCode ?? '-'),
      ],
    ],
  )
}

/** JSON: every sandbox that existed by then; the table has those that lived. */
async function showFleet(api: Api, at: string, format: Format): Promise<void> {
  const fleet = await api.json<{ sandboxes: Sandbox[]; execs: Exec[] }>('GET', '/v1/fleet', { query: { at } })
  const execs = Map.groupBy(fleet.execs, ({ sandboxId }) => sandboxId)
  const openExecs = (sandboxId: string) => (execs.get(sandboxId) ?? []).map(({ execId }) => execId)
  if (format === 'json') {
    const rows = fleet.sandboxes.map(({ state: status, ...sandbox }) => {
      return { ...sandbox, status, openExecs: openExecs(sandbox.sandboxId) }
    })
    printJson(rows)
    return
  }
  printTable(
    ['SANDBOX', 'NAME', 'STATE', 'IMAGE', 'WORKER', 'CREATED', 'OPEN EXECS'],
    fleet.sandboxes
      .filter(({ state }) => state !== 'ended')
      .map(({ sandboxId, name, state, image, workerId, createdAt }) => [
        sandboxId,
        name ?? '-',
        state,
        image.ref,
        workerId ?? '-',
        createdAt,
        String(openExecs(sandboxId).length),
      ]),
  )
}
