import { SandtrailError } from '#libs/domain'
import { Api, path } from '../api.js'
import { waitForExec } from '../attach/attach.js'
import { Exit } from '../failure.js'
import { chooseFormat, type Format, printJson, printLine } from '../print.js'
import { waitForSandbox } from './sandbox.js'

/** Prints the exit code and exits with it; 125 for what was lost, whose code nobody knows. */
export async function wait(reference: string, flags: { timeout?: number; output?: Format }): Promise<never> {
  if (flags.output !== undefined) chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const signal = flags.timeout === undefined ? undefined : AbortSignal.timeout(flags.timeout)
  // A server that is not there, or an id that nothing has, is told at once; what comes later is waited out.
  // By id from here on: a name is free as soon as its sandbox has ended.
  const isExec = reference.startsWith('ex-')
  const known = await api.json<{ execId?: string; sandboxId: string }>(
    'GET',
    isExec ? path`/v1/execs/${reference}` : path`/v1/sandboxes/${reference}`,
  )
  const id = known.execId ?? known.sandboxId
  try {
    const ended = isExec ? await waitForExec(api, id, signal) : await waitForSandbox(api, id, signal)
    const exitCode = ended.exitCode ?? 125
    if (flags.output === 'json') printJson(ended)
    else printLine(String(exitCode))
    throw new Exit(exitCode)
  } catch (error) {
    if (!signal?.aborted || error instanceof Exit) throw error
    throw new SandtrailError('DEADLINE_EXCEEDED', `${id} has not ended within the time`, { retryable: false })
  }
}
