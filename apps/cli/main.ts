/** `sandtrail`: the command line client. Speaks HTTP to a gateway, nothing else. docs/cli.md is its manual. */

import { onOutputError } from './broken-output.js'
import { fail } from './failure.js'
import { buildProgram } from './program.js'

process.stdout.on('error', onOutputError)

try {
  await buildProgram().parseAsync(process.argv)
} catch (error) {
  fail(error)
}
