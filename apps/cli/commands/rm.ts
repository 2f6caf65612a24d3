import { CODES, toErrorBody } from '#libs/domain'
import { Api, path } from '../api.js'
import { Exit, explain } from '../failure.js'
import { printLine } from '../print.js'
import type { Sandbox } from '../types.js'
import { terminate, waitForSandbox } from './sandbox.js'

/** Ends each of them; one that cannot be ended does not hold up the others. */
export async function rm(references: string[], flags: { wait: boolean }): Promise<void> {
  const api = Api.fromEnvironment()
  let exitCode = 0
  await Promise.all(
    references.map(async (reference) => {
      try {
        // A name is free again after the end: from here on the id counts.
        const { sandboxId } = await api.json<Sandbox>('GET', path`/v1/sandboxes/${reference}`)
        await terminate(api, sandboxId)
        if (flags.wait) await waitForSandbox(api, sandboxId)
        printLine(sandboxId)
      } catch (error) {
        const body = toErrorBody(error)
        process.stderr.write(explain(body))
        exitCode = CODES[body.code].exit
      }
    }),
  )
  api.close()
  if (exitCode !== 0) throw new Exit(exitCode)
}
