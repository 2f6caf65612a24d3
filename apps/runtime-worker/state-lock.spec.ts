import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from '@jest/globals'
import { lockState } from './state-lock.js'

const root = mkdtempSync(join(tmpdir(), 'sandtrail-lock-'))
afterAll(() => rmSync(root, { recursive: true }))

test('only one worker has a state directory, and the next one gets it after a release', async () => {
  const dir = join(root, 'a')
  const lock = await lockState(dir)
  await expect(lockState(dir, 0)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  await lock.release()
  await (await lockState(dir, 0)).release()
})

test('a holder that is killed lets go', async () => {
  const dir = join(root, 'b')
  const code = `const { lockState } = await import('${import.meta.dirname}/state-lock.ts')
    await lockState(${JSON.stringify(dir)}); console.log('held'); setInterval(() => {}, 1e6)`
  const holder = spawn(
    process.execPath,
    ['--conditions=source', '--import', 'tsx', '--input-type=module', '-e', code],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  await once(holder.stdout, 'data')
  holder.kill('SIGKILL')
  await (await lockState(dir)).release()
})
