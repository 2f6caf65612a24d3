import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { TestSystem, until } from './system.js'

const SANDBOXES = 5
const LINES = 150
/** Prints its pid and a counter, then its pid again: a restart of anything in it would show. */
const COUNTER = `echo $$; i=0; while [ $i -lt ${LINES} ]; do echo $i; i=$((i+1)); sleep 0.05; done; echo $$`
const EXPECTED = Array.from({ length: LINES }, (_, i) => String(i))

let system: TestSystem
beforeAll(async () => {
  system = await TestSystem.start()
}, 180_000)
afterAll(() => system?.stop(), 60_000)

test('kill -9 of the worker under live sandboxes: all are taken up again, no byte lost or doubled', async () => {
  const sandboxes = await Promise.all(Array.from({ length: SANDBOXES }, () => system.ok('create')))
  const execs = await Promise.all(
    sandboxes.map((id) => system.ok('exec', '--detach', id, '--', 'sh', '-c', COUNTER)),
  )
  // What a kill finds half made is ended, with a reason; this is about what runs.
  for (const exec of execs) await until(async () => (await system.types(exec)).includes('ExecStarted'))
  for (let kills = 0; kills < 3; kills++) {
    await system.system.kill('worker-1', 'SIGKILL')
    await system.system.start('worker-1')
  }
  for (const exec of execs) {
    const lines = (await system.ok('attach', exec)).split('\n')
    expect(lines.slice(1, -1)).toEqual(EXPECTED)
    expect(lines.at(-1)).toBe(lines[0])
  }
  for (const id of sandboxes) {
    expect(await system.ok('exec', id, '--', 'echo', 'alive')).toBe('alive')
    await system.ok('rm', id)
    await until(async () => (await system.types(id)).includes('SandboxCleanedUp'))
    expect(await system.types(id)).toEqual([
      'SandboxCreated',
      'SandboxPlaced',
      'SandboxStarted',
      'SandboxStopRequested',
      'SandboxTerminated',
      'SandboxCleanedUp',
    ])
  }
}, 240_000)

test('a sandbox that dies while its worker is away gets an end that says why', async () => {
  const id = await system.ok('create', '--timeout', '1h')
  await system.ok('exec', id, '--', 'true')
  await system.system.kill('worker-1', 'SIGKILL')
  const record = await until(() => sentryOf(id))
  process.kill(record, 'SIGKILL')
  await system.system.start('worker-1')
  await system.run(['wait', id])
  const types = await system.types(id)
  expect(types).toContain('SandboxFailed')
  const { data } = (await system.history(id)).find(({ type }) => type === 'SandboxFailed')!
  expect(String(data.message).length).toBeGreaterThan(10)
}, 120_000)

/** The pid of a sandbox's runsc process, by its command line: the test looks at the host, not at the worker's records. */
async function sentryOf(sandboxId: string): Promise<number | undefined> {
  const { readdir, readFile } = await import('node:fs/promises')
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const argv = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0')
    if (argv[0]?.includes('runsc') && argv.includes('boot') && argv.some((word) => word.includes(sandboxId)))
      return Number(pid)
  }
  return undefined
}
