import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { nextStatus, SANDBOX_TRANSITIONS } from '#libs/domain'
import { connect } from '#libs/messaging'
import { newCommand, TestSystem } from './system.js'

let system: TestSystem
beforeAll(async () => {
  system = await TestSystem.start()
}, 180_000)
afterAll(() => system?.stop(), 60_000)

test('the main job: create on NATS, use, snapshot, start from it, end both, read back, verify', async () => {
  await system.ok('volume', 'create', 'data')
  const nats = await connect({
    servers: system.env.NATS_URL!,
    name: 'test',
    credentials: { user: system.env.NATS_USER!, password: system.env.NATS_PASSWORD! },
  })
  const body = {
    volumes: [{ volume: 'data', path: '/data' }],
    env: { GREETING: 'canary-value' },
    tags: { job: 'main' },
  }
  const first = String((await nats.request('req.sandbox.create', body, { headers: newCommand() })).sandboxId)
  await nats.close()

  expect(
    await system.run(['exec', first, '--', 'sh', '-c', 'echo $GREETING; echo oops >&2; exit 7']),
  ).toMatchObject({
    code: 7,
    stdout: 'canary-value\n',
    stderr: 'oops\n',
  })
  await system.ok(
    'exec',
    first,
    '--',
    'sh',
    '-c',
    'echo kept > /data/file; echo tmp > /tmp/file; echo root > /root/file',
  )

  const snapshot = await system.ok('snapshot', first)
  const second = await system.ok('create', '--image', snapshot)
  expect(await system.ok('exec', second, '--', 'cat', '/tmp/file', '/root/file')).toBe('tmp\nroot')

  await system.ok('rm', first)
  await system.ok('rm', second)
  expect((await system.run(['wait', first])).code).toBe(137)
  expect((await system.run(['wait', second])).code).toBe(137)
  expect(await system.ok('run', '--volume', 'data:/data:ro', '--', 'cat', '/data/file')).toBe('kept')

  for (const sandbox of [first, second]) {
    const types = await system.types(sandbox)
    expect(types.filter((type) => type !== 'SandboxCleanedUp')).toEqual([
      'SandboxCreated',
      'SandboxPlaced',
      'SandboxStarted',
      'SandboxStopRequested',
      'SandboxTerminated',
    ])
    let status: Parameters<typeof nextStatus>[1] = 'absent'
    for (const type of types) status = nextStatus(SANDBOX_TRANSITIONS, status as 'absent', type)!
    expect(status).toBe('ended')
  }
  expect(JSON.stringify(await system.history(first))).not.toContain('canary-value')
  expect(await system.run(['verify'])).toMatchObject({ code: 0 })
}, 120_000)

test.each([
  [['sh', '-c', 'exit 3'], 3],
  [['sh', '-c', 'kill -TERM $$'], 143],
  [['/does/not/exist'], 127],
  [['/etc/passwd'], 126],
])(
  'run %j ends with %i',
  async (argv, code) => {
    expect((await system.run(['run', '--', ...argv])).code).toBe(code)
  },
  60_000,
)

test('a sandbox that outlives its time is ended by its worker, and says so', async () => {
  const id = await system.ok('create', '--timeout', '2s')
  expect((await system.run(['wait', id])).code).toBe(124)
  const ended = (await system.history(id)).find(({ type }) => type === 'SandboxTimedOut')
  expect(ended?.data).toMatchObject({ reason: 'lifetime', exitCode: 124 })
}, 60_000)

test('a sandbox that nobody uses is ended when it was told to be', async () => {
  const id = await system.ok('create', '--idle-timeout', '2s')
  expect((await system.run(['wait', id])).code).toBe(124)
  const ended = (await system.history(id)).find(({ type }) => type === 'SandboxTimedOut')
  expect(ended?.data).toMatchObject({ reason: 'idle' })
}, 60_000)

test('running out of memory is told as that', async () => {
  const id = await system.ok('create', '--memory', '128m')
  const lost = await system.run(['exec', id, '--', 'python3', '-c', 'x = bytearray(1 << 30)'])
  expect(lost).toMatchObject({ code: 137, stderr: expect.stringContaining('OUT_OF_MEMORY') })
  expect((await system.run(['wait', id])).code).toBe(137)
  const ended = (await system.history(id)).find(({ type }) => type === 'SandboxFailed')
  expect(ended?.data).toMatchObject({ code: 'OUT_OF_MEMORY' })
}, 90_000)

test('a write over the disk quota fails with EDQUOT and what was written before stays', async () => {
  const nats = await system.nats()
  const body = { diskLimitBytes: 64 * 1024 ** 2 }
  const id = String((await nats.request('req.sandbox.create', body, { headers: newCommand() })).sandboxId)
  await nats.close()
  await system.ok('exec', id, '--', 'sh', '-c', 'echo before > /root/before; sync')
  const dd = await system.run([
    'exec',
    id,
    '--',
    'dd',
    'if=/dev/urandom',
    'of=/root/big',
    'bs=1M',
    'count=200',
  ])
  expect(dd.code).not.toBe(0)
  expect(dd.stderr).toContain('Disk quota exceeded')
  expect(await system.ok('exec', id, '--', 'cat', '/root/before')).toBe('before')
  await system.ok('rm', id)
}, 90_000)
