/** The README's quick start, as it stands there, on a lasting system of its own. */

import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, expect, test } from '@jest/globals'

const clone = fileURLToPath(new URL('../..', import.meta.url))
const home = mkdtempSync(join(tmpdir(), 'sandtrail-readme-'))
const run = (script: string) =>
  promisify(execFile)('bash', ['-e', '-o', 'pipefail', '-c', script], {
    cwd: home,
    // `make up` here must neither meet nor stop the system that a developer has up in this clone.
    env: { ...process.env, _SANDTRAIL_HOME: join(home, '.sandtrail') },
  })

afterAll(async () => {
  await run('.tools/node/bin/node scripts/system/main.mjs destroy')
  rmSync(home, { recursive: true })
}, 120_000)

test('the quick start of the README works as written', async () => {
  for (const entry of readdirSync(clone)) {
    if (entry !== '.sandtrail') symlinkSync(join(clone, entry), join(home, entry))
  }
  const readme = readFileSync(join(clone, 'README.md'), 'utf8')
  const [, script = ''] = /^```sh quick-start\n(.*?)^```/ms.exec(readme) ?? []
  expect(script).toContain('make up')
  const { stdout } = await run(script)
  expect(stdout).toContain('hello from')
  expect(stdout).toContain('FROM STDIN')
  expect(stdout).toContain('here\n')
  expect(stdout).toContain('kept\n')
}, 300_000)
