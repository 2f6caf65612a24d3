/** The programs of examples/, each against a system of its own, with nothing but a NATS client. */

import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { type System, startSystem } from '../../scripts/system/system.mjs'

const clone = fileURLToPath(new URL('../..', import.meta.url))
const venv = mkdtempSync(join(tmpdir(), 'sandtrail-venv-'))
const exec = promisify(execFile)
let system: System

beforeAll(async () => {
  system = await startSystem()
}, 120_000)
afterAll(async () => {
  await system?.stop()
  rmSync(venv, { recursive: true })
}, 60_000)

const run = (command: string, ...args: string[]) =>
  exec(command, args, {
    cwd: clone,
    env: { ...process.env, ...system.env },
  })

test('the TypeScript program runs a sandbox by request and by queued command', async () => {
  const { stdout } = await run(process.execPath, '--import', 'tsx', 'examples/typescript/run-on-nats.ts')
  expectBothWays(stdout)
}, 120_000)

test('the Python program does the same', async () => {
  await run('python3', '-m', 'venv', venv)
  await run(join(venv, 'bin', 'pip'), 'install', '--quiet', 'nats-py')
  const { stdout } = await run(join(venv, 'bin', 'python'), 'examples/python/run_on_nats.py')
  expectBothWays(stdout)
}, 240_000)

function expectBothWays(stdout: string) {
  expect(stdout.match(/says 42/g)).toHaveLength(2)
  expect(stdout.match(/SandboxTerminated/g)).toHaveLength(2)
}
