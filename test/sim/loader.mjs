/**
 * Loads the real source of apps/ and libs/ into the simulation: TypeScript as it stands, with clock, randomness and
 * disk taken from the simulated world. SIM_MUTATION names a bug of mutations.mjs that is planted on the way.
 */
import fs, { readFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { mutate } from './mutations.mjs'

const ROOT = new URL('../../', import.meta.url)
const PRODUCT = [new URL('apps/', ROOT).href, new URL('libs/', ROOT).href]
/** What the product imports of Node that is not deterministic. */
const DOUBLES = new Map([
  ['node:crypto', 'crypto'],
  ['node:fs', 'fs'],
  ['node:fs/promises', 'fs-promises'],
  ['node:timers/promises', 'timers-promises'],
])
const { options } = ts.convertCompilerOptionsFromJson(
  JSON.parse(readFileSync(new URL('tsconfig.json', ROOT), 'utf8')).compilerOptions,
  fileURLToPath(ROOT),
)
Object.assign(options, { module: ts.ModuleKind.ESNext, inlineSourceMap: true, sourceMap: false })

const REAL = { 'node:fs': fs, 'node:fs/promises': fs.promises }

/** In a double of the disk, whatever it does not have refuses: nothing simulated may reach the real one. */
function withoutTheReal(text) {
  return text.replace(/^export \* from '(node:fs(?:\/promises)?)'$/m, (_, module) =>
    Object.keys(REAL[module])
      .filter((name) => !new RegExp(`^export (function|const) ${name}\\b`, 'm').test(text))
      .map((name) => `export function ${name}() { throw new Error('the simulation has no ${module} ${name}') }`)
      .join('\n'),
  )
}

registerHooks({
  resolve(specifier, context, next) {
    const parent = context.parentURL ?? ''
    const double = PRODUCT.some((url) => parent.startsWith(url)) && DOUBLES.get(specifier)
    if (double) return { url: new URL(`doubles/${double}.ts`, import.meta.url).href, shortCircuit: true }
    const isOurs = parent.startsWith(ROOT.href) && !parent.includes('/node_modules/')
    const source = isOurs && specifier.startsWith('.') ? specifier.replace(/\.js$/, '.ts') : specifier
    return next(source, context)
  },
  load(url, context, next) {
    if (!url.startsWith(ROOT.href) || !url.endsWith('.ts')) return next(url, context)
    const path = url.slice(ROOT.href.length)
    const text = withoutTheReal(mutate(path, readFileSync(new URL(url), 'utf8')))
    const { outputText } = ts.transpileModule(text, { compilerOptions: options, fileName: fileURLToPath(url) })
    return { format: 'module', source: outputText, shortCircuit: true }
  },
})
