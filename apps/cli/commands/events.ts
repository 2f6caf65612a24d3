import { SandtrailError } from '#libs/domain'
import { Api, pause } from '../api.js'
import { parseMoment } from '../options.js'
import { chooseFormat, type Format, plain, printJson, printLine } from '../print.js'
import type { Event } from '../types.js'
import { eventRow, printEvents } from './history.js'

interface Flags {
  type: string[]
  since?: string
  follow?: boolean
  limit?: number
  output?: Format
}

const PAGE = 500
const PAUSE_MS = 500

export async function events(flags: Flags): Promise<void> {
  const format = chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const query = { type: flags.type, ...startOf(flags.since) }
  if (flags.follow) {
    await follow(api, query, flags.limit, format)
    return
  }
  const found: Event[] = []
  const most = flags.limit ?? Number.POSITIVE_INFINITY
  let after = query.after
  for (;;) {
    const limit = Math.min(PAGE, most - found.length)
    const page = await api.json<{ events: Event[]; next: number }>('GET', '/v1/events', {
      query: { ...query, after, limit },
    })
    found.push(...page.events)
    after = page.next
    // A page of large events is a short one, and not the last.
    if (page.events.length === 0 || found.length >= most) break
  }
  api.close()
  if (format === 'json') printJson(found)
  else printEvents(found)
}

/** A whole number is a position, anything else a time. */
function startOf(since: string | undefined): { after?: number; since?: string } {
  if (since === undefined) return {}
  if (/^\d{1,15}$/.test(since)) return { after: Number(since) }
  return { since: parseMoment(since, new Date()) }
}

type Query = { type: string[]; after?: number; since?: string }

/** One event a line, each as it comes. A broken connection is taken up again after the last position. */
async function follow(api: Api, query: Query, limit: number | undefined, format: Format): Promise<void> {
  let last: number | undefined
  let left = limit ?? Number.POSITIVE_INFINITY
  while (left > 0) {
    try {
      const headers = {
        Accept: 'text/event-stream',
        ...(last === undefined ? {} : { 'Last-Event-ID': String(last) }),
      }
      const answer = await api.open('GET', '/v1/events', { query: { ...query }, headers })
      for await (const event of readSse(answer)) {
        last = event.position ?? last
        printLine(format === 'json' ? JSON.stringify(event) : eventRow(event).map(plain).join('  '))
        left -= 1
        if (left <= 0) break
      }
    } catch (error) {
      const broken = (error as NodeJS.ErrnoException).code === 'ECONNRESET'
      if (!broken && !(error instanceof SandtrailError && error.retryable)) throw error
    }
    if (left > 0) await pause(PAUSE_MS)
  }
  api.close()
}

async function* readSse(stream: AsyncIterable<Buffer>): AsyncGenerator<Event> {
  const decoder = new TextDecoder()
  let text = ''
  for await (const chunk of stream) {
    text += decoder.decode(chunk, { stream: true })
    const messages = text.split('\n\n')
    text = messages.pop() ?? ''
    for (const message of messages) {
      const data = message.split('\n').find((line) => line.startsWith('data: '))
      if (data !== undefined) yield JSON.parse(data.slice('data: '.length)) as Event
    }
  }
}
