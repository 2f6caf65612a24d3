import { once } from 'node:events'
import { Api, path } from '../api.js'
import { followOutput } from '../attach/follow-output.js'
import { Harmless } from '../attach/harmless.js'
import { usage } from '../failure.js'
import { note } from '../print.js'
import type { Sandbox } from '../types.js'

/** What the main command wrote, each stream to its own here. */
export async function logs(sandbox: string, flags: { follow?: boolean; raw?: boolean }): Promise<void> {
  if (sandbox.startsWith('ex-')) {
    throw usage(
      `${sandbox} is an exec; logs are of a main command`,
      `\`sandtrail attach ${sandbox}\` shows its output`,
    )
  }
  const api = Api.fromEnvironment()
  // Its name is free as soon as it has ended; the rest of its output is asked for by id.
  const { sandboxId } = await api.json<Sandbox>('GET', path`/v1/sandboxes/${sandbox}`)
  const source = path`/v1/sandboxes/${sandboxId}/logs`
  const show = async (stream: 'stdout' | 'stderr', terminal: NodeJS.WriteStream) => {
    const sink = terminal.isTTY && !flags.raw ? harmless(terminal) : terminal
    if (flags.follow) {
      await followOutput(api, { path: source, query: { stream } }, sink, { note })
      return
    }
    const answer = await api.open('GET', source, { query: { stream, offset: 0, follow: 0 } })
    for await (const chunk of answer) if (!sink.write(chunk)) await once(sink, 'drain')
  }
  await Promise.all([show('stdout', process.stdout), show('stderr', process.stderr)])
  api.close()
}

function harmless(terminal: NodeJS.WriteStream): Harmless {
  const filter = new Harmless()
  filter.pipe(terminal, { end: false })
  return filter
}
