import { Api, path } from '../api.js'
import { attach, exitCodeOf } from '../attach/attach.js'
import { stdinOffset } from '../attach/pump-stdin.js'
import { Exit, usage } from '../failure.js'
import type { Exec } from '../types.js'

/** @throws Exit with the exec's exit code */
export async function attachTo(reference: string, flags: { interactive?: boolean }): Promise<never> {
  const api = Api.fromEnvironment()
  const exec = await api.json<Exec>('GET', path`/v1/execs/${reference}`)
  const stdin = flags.interactive === true && exec.state !== 'ended'
  if (stdin && exec.stdin !== 'open') {
    throw usage(`${exec.execId} was started without an open stdin`, 'start it with -i')
  }
  const offset = stdin ? await stdinOffset(api, exec.execId) : 0
  throw new Exit(await exitCodeOf(api, await attach(api, exec, { stdin, stdinOffset: offset })))
}
