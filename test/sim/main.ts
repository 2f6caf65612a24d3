import { run } from './run.js'

/** Resolves with the exit code: 1 when a run has broken a rule. */
export async function main(env: NodeJS.ProcessEnv): Promise<number> {
  const { SIM_SEED, SIM_RUNS = '1000', SIM_FROM = '1', SIM_SECONDS, SIM_TRACE } = env
  if (SIM_SEED !== undefined) return one(Number(SIM_SEED), SIM_TRACE !== '0')
  const began = process.hrtime.bigint()
  const seconds = () => Number(process.hrtime.bigint() - began) / 1e9
  let failed = 0
  let runs = 0
  let virtualMs = 0
  for (let seed = Number(SIM_FROM); runs < Number(SIM_RUNS); seed++) {
    if (env.SIM_PROGRESS) console.error(seed, seconds())
    const result = await run(seed)
    runs++
    virtualMs += result.virtualMs
    if (result.violations.length > 0) {
      failed++
      tell(result.seed, result.violations)
      if (failed === 5 || env.SIM_MUTATION) break
    }
    if (SIM_SECONDS && seconds() > Number(SIM_SECONDS)) break
  }
  const hours = (virtualMs / 3_600_000).toFixed(1)
  console.log(JSON.stringify({ runs, failed, virtualHours: Number(hours), seconds: Math.round(seconds()) }))
  return failed === 0 ? 0 : 1
}

async function one(seed: number, verbose: boolean): Promise<number> {
  const { violations, ...result } = await run(seed, { verbose })
  if (violations.length > 0) tell(seed, violations)
  console.log(JSON.stringify(result))
  return violations.length === 0 ? 0 : 1
}

function tell(seed: number, violations: readonly string[]): void {
  console.log(`seed ${seed} breaks the rules; SIM_SEED=${seed} npm run sim repeats it:`)
  for (const violation of violations.slice(0, 10)) console.log(`  ${violation}`)
}
