import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { ROOT, TestSystem } from './system.js'

const run = promisify(execFile)
const ENDS = /SandboxTerminated[\s\S]*SandboxTerminated/

let system: TestSystem
beforeAll(async () => {
  system = await TestSystem.start()
}, 180_000)
afterAll(() => system?.stop(), 60_000)

/** With nothing of the repository's environment but where the broker is. */
const environment = () => {
  const { NATS_URL, NATS_USER, NATS_PASSWORD } = system.env
  return { PATH: process.env.PATH!, HOME: process.env.HOME!, NATS_URL, NATS_USER, NATS_PASSWORD }
}

test('the Python program runs, both ways', async () => {
  const venv = await mkdtemp(join(tmpdir(), 'sandtrail-venv-'))
  try {
    await run('python3', ['-m', 'venv', venv])
    await run(join(venv, 'bin', 'pip'), ['install', '--quiet', 'nats-py==2.15.0'], {
      env: { ...process.env },
    })
    const program = join(ROOT, 'examples', 'python', 'run_on_nats.py')
    const { stdout } = await run(join(venv, 'bin', 'python'), [program], { env: environment() })
    expect(stdout.match(/says 42/g)).toHaveLength(2)
    expect(stdout).toMatch(ENDS)
  } finally {
    await rm(venv, { recursive: true })
  }
}, 180_000)

test('the TypeScript program runs, both ways', async () => {
  const program = join(ROOT, 'examples', 'typescript', 'run-on-nats.ts')
  const { stdout } = await run(process.execPath, ['--import', 'tsx', program], {
    env: environment(),
    cwd: ROOT,
  })
  expect(stdout.match(/says 42/g)).toHaveLength(2)
  expect(stdout).toMatch(ENDS)
}, 120_000)
