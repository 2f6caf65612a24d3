/** check-asyncapi.mjs FILE: fails when FILE is not a valid AsyncAPI document. */
import { readFileSync } from 'node:fs'
import { Parser } from '@asyncapi/parser'

const [path = ''] = process.argv.slice(2)
const { document, diagnostics } = await new Parser().parse(readFileSync(path, 'utf8'))
for (const { message, range, severity } of diagnostics) {
  console.log(
    `${path}:${range.start.line + 1}: ${['error', 'warning', 'info', 'hint'][severity]}: ${message}`,
  )
}
process.exit(document === undefined ? 1 : 0)
