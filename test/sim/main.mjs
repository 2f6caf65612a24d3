/**
 * `SIM_SEED=n` runs one seed and tells all that happens; else `SIM_RUNS` seeds from `SIM_FROM` on. A seed that breaks a
 * rule is printed with the command that repeats it. `SIM_MUTATION` plants a bug (mutations.mjs).
 */
import './loader.mjs'
const { installGlobals } = await import('./globals.ts')
installGlobals()
const { main } = await import('./main.ts')
process.exitCode = await main(process.env)
