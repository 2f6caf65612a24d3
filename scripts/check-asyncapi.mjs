/** `make check`: docs/asyncapi.yaml is valid AsyncAPI 3. */
import { readFileSync } from 'node:fs'
import { Parser } from '@asyncapi/parser'

const source = readFileSync(new URL('../docs/asyncapi.yaml', import.meta.url), 'utf8')
const { document, diagnostics } = await new Parser().parse(source)
const errors = diagnostics.filter(({ severity }) => severity === 0)
for (const { message, path } of errors) console.error(`docs/asyncapi.yaml: ${path.join('.')}: ${message}`)
if (!document || errors.length > 0) process.exit(1)
console.log('docs/asyncapi.yaml is valid')
