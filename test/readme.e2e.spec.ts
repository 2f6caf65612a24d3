import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from '@jest/globals'
import { ROOT } from './system.js'

const run = promisify(execFile)

/** In a clone of its own: the commands start and stop its system, not one that the developer has up. */
test('the quick start of the README works, word for word, in a fresh clone', async () => {
  const readme = await readFile(join(ROOT, 'README.md'), 'utf8')
  const script = /```sh quick-start\n([\s\S]*?)```/.exec(readme)?.[1]
  expect(script).toContain('make up')
  const clone = await mkdtemp(join(tmpdir(), 'sandtrail-readme-'))
  const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith('SANDTRAIL_')))
  try {
    await run('git', ['clone', '--quiet', '--no-hardlinks', ROOT, clone])
    const { stdout } = await run('bash', ['-euo', 'pipefail', '-c', script!], {
      cwd: clone,
      env,
      maxBuffer: 1 << 26,
    })
    expect(stdout).toContain('FROM STDIN')
    expect(stdout).toContain('here')
    expect(stdout).toContain('kept')
    expect(stdout).toContain('SandboxTerminated')
  } finally {
    await run('make', ['--no-print-directory', 'down'], { cwd: clone, env }).catch(() => {})
    await run('node', ['scripts/system/main.mjs', 'destroy'], { cwd: clone, env }).catch(() => {})
    await rm(clone, { recursive: true, force: true })
  }
}, 600_000)
