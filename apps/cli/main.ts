/** `sandtrail`: the command line client. Speaks HTTP to a gateway, nothing else. docs/cli.md is its manual. */

import { fail } from './failure.js'
import { buildProgram } from './program.js'

// A reader that goes away (`| head`) is no error of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 141 : 125))

try {
  await buildProgram().parseAsync(process.argv)
} catch (error) {
  fail(error)
}
