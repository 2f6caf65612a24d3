/** The official Modal SDKs, unmodified and from their registries, against a system: both generations of each. */

import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { type Ran, ROOT, runProgram, TestSystem } from './system.js'

const PROGRAMS = join(ROOT, 'test', 'modal')
const BUILT = join(ROOT, '.sandtrail', 'modal-sdks')
const PYTHON = join(BUILT, 'python', 'bin', 'python')
const GO = join(BUILT, 'go')
const SDK_MS_MAX = 300_000
const PYTHON_SDK = 'modal==1.6.4'

const COMMANDS = {
  JavaScript: [process.execPath, join(PROGRAMS, 'javascript.mjs')],
  Python: [PYTHON, join(PROGRAMS, 'python.py')],
  Go: [GO],
} as const

let system: TestSystem
beforeAll(async () => {
  const started = TestSystem.start()
  if (!existsSync(PYTHON)) {
    await ok('python3', ['-m', 'venv', join(BUILT, 'python')])
    await ok(PYTHON, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', PYTHON_SDK])
  }
  await ok('go', ['build', '-o', GO, '.'], { cwd: join(PROGRAMS, 'go') })
  system = await started
}, 600_000)
afterAll(() => system?.stop(), 60_000)

for (const [language, [program, ...args]] of Object.entries(COMMANDS)) {
  for (const generation of [2, 1]) {
    test(`the main job by ${language}, generation ${generation}`, async () => {
      const ran = await run(program, args, { MODAL_SANDBOX_V2: generation === 1 ? '0' : '1' })
      expectSuccess(ran)
      const sandboxId = /^sandbox (sb-\w+)$/m.exec(ran.stdout)?.[1] ?? ''
      if (generation === 2) {
        const types = (await system.history(sandboxId)).map(({ type }) => type)
        expect(types.slice(0, 3)).toEqual(['SandboxCreated', 'SandboxPlaced', 'SandboxStarted'])
        expect(types).toContain('SandboxTerminated')
      }
    }, 180_000)
  }
}

test('`modal run` runs a program to its end, and its sandboxes end with it', async () => {
  const ran = await run(PYTHON, ['-m', 'modal', 'run', join(PROGRAMS, 'run.py')], {})
  expectSuccess(ran)
  const sandboxId = /^sandbox (sb-\w+)$/m.exec(ran.stdout)?.[1] ?? ''
  await system.ok('wait', sandboxId).catch(() => {})
  const types = (await system.history(sandboxId)).map(({ type }) => type)
  expect(types).toContain('SandboxTerminated')
}, 120_000)

test('an exec’s output is whole though the gateway is killed while it is read', async () => {
  const program = join(PROGRAMS, 'follow.mjs')
  const child = spawn(process.execPath, [program], { env: { ...process.env, ...system.env } })
  let text = ''
  const ended = new Promise((resolve) => child.once('close', resolve))
  await new Promise<void>((resolve) => {
    child.stdout.on('data', (chunk) => {
      text += chunk
      if (text.includes('line 20\n')) resolve()
    })
  })
  await system.system.kill('gateway')
  await system.system.start('gateway')
  expect(await ended).toBe(0)
  expect(text).toBe(Array.from({ length: 200 }, (_, i) => `line ${i + 1}\n`).join(''))
}, 120_000)

test('a token that is not valid is refused by the SDK’s own error', async () => {
  const { code, stderr } = await run(process.execPath, [join(PROGRAMS, 'javascript.mjs')], {
    MODAL_TOKEN_SECRET: `as-${'x'.repeat(32)}`,
  })
  expect(code).not.toBe(0)
  expect(stderr).toContain('UNAUTHENTICATED')
}, 60_000)

/** What the program said is the cause of its failure. */
function expectSuccess({ code, stdout, stderr }: Ran): void {
  expect({ code, said: code === 0 ? '' : `${stdout}${stderr}` }).toEqual({ code: 0, said: '' })
}

function run(program: string, args: readonly string[], env: Record<string, string>): Promise<Ran> {
  return runProgram(program, args, { env: { ...process.env, ...system.env, ...env }, timeoutMs: SDK_MS_MAX })
}

async function ok(program: string, args: string[], options: { cwd?: string } = {}): Promise<void> {
  const { code, stdout, stderr } = await runProgram(program, args, { ...options, timeoutMs: SDK_MS_MAX })
  if (code !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${code}: ${stderr || stdout}`)
}
