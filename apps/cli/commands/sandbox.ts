/** What `run` and `create` have in common. */

import { Rejected } from '#libs/domain'
import { type Api, path, patiently } from '../api.js'
import { note, progress } from '../print.js'
import { type SandboxFlags, sandboxBody } from '../program.js'
import type { Sandbox } from '../types.js'

export interface Accepted {
  sandboxId: string
  commandId: string
}

/** Creates the sandbox, and first the volumes that it names and that do not exist. */
export async function createSandbox(
  api: Api,
  flags: SandboxFlags,
  command: string[] | null,
): Promise<Accepted> {
  const body = sandboxBody(flags, process.env)
  await Promise.all((body.volumes as { volume: string }[]).map(({ volume }) => ensureVolume(api, volume)))
  const startedMs = performance.now()
  const accepted = await api.json<Accepted>('POST', '/v1/sandboxes', {
    json: { ...body, command },
    command: true,
  })
  progress(`${accepted.sandboxId} created (${Math.round(performance.now() - startedMs)} ms)`)
  return accepted
}

/** As docker does: a volume that is mounted for the first time is made. */
async function ensureVolume(api: Api, name: string): Promise<void> {
  try {
    await api.json('GET', path`/v1/volumes/${name}`)
    return
  } catch (error) {
    if (!(error instanceof Rejected) || error.code !== 'VOLUME_NOT_FOUND') throw error
  }
  try {
    await api.json('POST', '/v1/volumes', { json: { name }, command: true })
    progress(`volume ${name} created`)
  } catch (error) {
    // Somebody else was quicker.
    if (!(error instanceof Rejected) || error.code !== 'NAME_TAKEN') throw error
  }
}

/** Resolves when the sandbox has ended, however long that takes. */
export async function waitForSandbox(api: Api, sandboxId: string, signal?: AbortSignal): Promise<Sandbox> {
  for (;;) {
    const query = { timeoutMs: 60_000 }
    const ask = () => api.json<Sandbox>('GET', path`/v1/sandboxes/${sandboxId}/wait`, { query, signal })
    const sandbox = await patiently(ask, signal)
    if (sandbox.state === 'ended') return sandbox
  }
}

/** Asks for the end; resolves when the request is committed. */
export async function terminate(api: Api, sandboxId: string): Promise<void> {
  await api.json('POST', path`/v1/sandboxes/${sandboxId}/terminate`, { command: true })
}

/** The exit code of the CLI for a sandbox's end; what is not its command's own doing is told on stderr. */
export function exitCodeOf(sandbox: Sandbox): number {
  const { sandboxId, terminalEvent, reason, errorCode, exitCode } = sandbox
  if (terminalEvent !== 'SandboxFinished') {
    note(`sandtrail: ${sandboxId} ended by ${terminalEvent}: ${reason ?? 'no reason was given'}`)
    if (errorCode !== null) note(`  code: ${errorCode}`)
    note(`  to do: \`sandtrail history ${sandboxId}\` tells what happened`)
  }
  return exitCode ?? 125
}
