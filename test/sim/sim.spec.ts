/**
 * The simulation in CI: a bounded number of seeds, the seeds that once found a bug, proof that a seed repeats exactly,
 * and proof that bugs are found. Each simulation is a process of its own, two at a time.
 */

import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { describe, expect, test } from '@jest/globals'
import { MUTATIONS } from './mutations.mjs'

const MAIN = join(import.meta.dirname, 'main.mjs')
/** Far above what a run needs on a busy machine: a simulation that hangs must not hold up the others. */
const PROCESS_MS_MAX = 170_000
const TEST_MS_MAX = 180_000

interface Simulation {
  exitCode: number
  output: string
}

function simulate(env: Record<string, string>): Promise<Simulation> {
  const options = {
    env: { PATH: process.env.PATH ?? '', ...env },
    timeout: PROCESS_MS_MAX,
    killSignal: 'SIGKILL' as const,
  }
  return new Promise((resolve, reject) => {
    execFile(process.execPath, ['--conditions=source', MAIN], options, (error, stdout, stderr) => {
      if (error === null) resolve({ exitCode: 0, output: stdout })
      else if (error.code === 1) resolve({ exitCode: 1, output: stdout })
      else reject(new Error(`the simulation ended by ${error.signal ?? error.code}: ${stderr}`))
    })
  })
}

/** A bound in time keeps CI short on a slow machine; it says how many it came to. */
test.concurrent.each([1, 1_000_001])(
  'whatever goes wrong, what was accepted comes to its one end: seeds from %i on',
  async (from) => {
    const bounds = { SIM_RUNS: '2000', SIM_SECONDS: '45' }
    const { exitCode, output } = await simulate({ SIM_FROM: String(from), ...bounds })
    expect({ exitCode, output }).toEqual({ exitCode: 0, output: expect.stringContaining('"failed":0') })
    console.log(output.trim())
  },
  TEST_MS_MAX,
)

/** What each found is in docs/reliability.md. */
const REGRESSIONS = [1, 3, 79, 196, 2025]
test(
  'the seeds that found bugs',
  async () => {
    for (const seed of REGRESSIONS) {
      const { exitCode, output } = await simulate({ SIM_SEED: String(seed), SIM_TRACE: '0' })
      expect({ seed, exitCode, output }).toMatchObject({ seed, exitCode: 0 })
    }
  },
  TEST_MS_MAX,
)

test(
  'the same seed is the same run, another seed is another',
  async () => {
    const runs = await Promise.all(
      ['7', '7', '8'].map((seed) => simulate({ SIM_SEED: seed, SIM_TRACE: '0' })),
    )
    const hashes = runs.map(({ output }) => (JSON.parse(output) as { hash: string; steps: number }).hash)
    expect(hashes[1]).toBe(hashes[0])
    expect(hashes[2]).not.toBe(hashes[0])
  },
  TEST_MS_MAX,
)

describe('a planted bug is found', () => {
  test.concurrent.each(Object.keys(MUTATIONS))(
    '%s',
    async (mutation) => {
      const { exitCode, output } = await simulate({ SIM_MUTATION: mutation, SIM_RUNS: '300' })
      expect({ exitCode, output }).toEqual({
        exitCode: 1,
        output: expect.stringContaining('breaks the rules'),
      })
    },
    TEST_MS_MAX,
  )
})
