import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { TestSystem, until } from './system.js'

let system: TestSystem
beforeAll(async () => {
  system = await TestSystem.start()
}, 180_000)
afterAll(() => system?.stop(), 60_000)

const sh = (id: string, script: string) => system.ok('exec', id, '--', 'sh', '-c', script)
const mounted = (volume: string) => system.ok('create', '--volume', `${volume}:/data`)

test('a write is invisible to another sandbox before commit and reload', async () => {
  await system.ok('volume', 'create', 'isolated')
  const [writer, reader] = [await mounted('isolated'), await mounted('isolated')]
  await sh(writer, 'echo one > /data/file')
  expect(await sh(reader, 'ls /data')).toBe('')
  await system.ok('volume', 'commit', writer, 'isolated')
  expect(await sh(reader, 'ls /data')).toBe('')
  await system.ok('volume', 'reload', reader, 'isolated')
  expect(await sh(reader, 'cat /data/file')).toBe('one')
  await Promise.all([writer, reader].map((id) => system.ok('rm', id)))
}, 120_000)

test('two writers are merged by path, the last commit wins, and the event names what was overwritten', async () => {
  await system.ok('volume', 'create', 'merged')
  const [a, b] = [await mounted('merged'), await mounted('merged')]
  await sh(a, 'echo a > /data/both; echo a > /data/only-a')
  await sh(b, 'echo b > /data/both; echo b > /data/only-b')
  await system.ok('volume', 'commit', a, 'merged')
  await system.ok('volume', 'commit', b, 'merged')
  expect(
    await system.ok('run', '--volume', 'merged:/v:ro', '--', 'sh', '-c', 'cat /v/both /v/only-a /v/only-b'),
  ).toBe('b\na\nb')
  const { versions } = await system.json<{ versions: { version: number; overwritten: string[] }[] }>(
    'volume',
    'versions',
    'merged',
  )
  expect(versions.find(({ version }) => version === 2)?.overwritten).toEqual(['both'])
  await Promise.all([a, b].map((id) => system.ok('rm', id)))
}, 120_000)

test('what is written survives terminate, also with the syncer down; older versions stay readable', async () => {
  await system.ok('volume', 'create', 'kept')
  const first = await mounted('kept')
  await sh(first, 'echo 1 > /data/file')
  await system.system.kill('volume-syncer', 'SIGKILL')
  await system.ok('rm', first)
  await system.run(['wait', first])
  // No version yet, and yet the next mount sees it.
  const second = await mounted('kept')
  expect(await sh(second, 'cat /data/file')).toBe('1')
  await sh(second, 'echo 2 > /data/file')
  await system.system.start('volume-syncer')
  await system.ok('rm', second)
  await until(
    async () =>
      (await system.types(await volumeId('kept'))).filter((type) => type === 'VolumeCommitted').length === 2,
  )
  expect(await system.ok('run', '--volume', 'kept@1:/v:ro', '--', 'cat', '/v/file')).toBe('1')
  expect(await system.ok('run', '--volume', 'kept:/v:ro', '--', 'cat', '/v/file')).toBe('2')
}, 180_000)

test('a read-only mount cannot be written, whatever the guest does', async () => {
  await system.ok('volume', 'create', 'frozen')
  const id = await system.ok('create', '--volume', 'frozen:/data:ro')
  const tried = await system.run([
    'exec',
    id,
    '--',
    'sh',
    '-c',
    'mount -o remount,rw /data; echo x > /data/file',
  ])
  expect(tried.code).not.toBe(0)
  await system.ok('rm', id)
}, 60_000)

async function volumeId(name: string): Promise<string> {
  const volumes = await system.json<{ volumeId: string; name: string }[]>('volume', 'ls')
  return volumes.find((volume) => volume.name === name)!.volumeId
}
