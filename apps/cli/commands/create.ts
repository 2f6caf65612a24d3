import { Api } from '../api.js'
import { chooseFormat, type Format, printJson, printLine } from '../print.js'
import type { SandboxFlags } from '../program.js'
import { createSandbox } from './sandbox.js'

/** Prints the id alone, so that `SB=$(sandtrail create)` works; all of the answer with `-o json`. */
export async function create(command: string[], flags: SandboxFlags & { output?: Format }): Promise<void> {
  if (flags.output !== undefined) chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const accepted = await createSandbox(api, flags, command.length > 0 ? command : null)
  if (flags.output === 'json') printJson(accepted)
  else printLine(accepted.sandboxId)
  api.close()
}
