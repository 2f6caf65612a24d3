import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { ROOT, TestSystem, until } from './system.js'

let system: TestSystem
let sandbox: string
beforeAll(async () => {
  system = await TestSystem.start()
  sandbox = await system.ok('create', '--name', 'cli', '--timeout', '30m')
}, 240_000)
afterAll(() => system?.stop(), 60_000)

test('what was just created is in the list, also by tag, state and name', async () => {
  const id = await system.ok('create', '--name', 'fresh', '--tag', 'a=b')
  for (const filter of [
    [],
    ['--tag', 'a=b'],
    ['--name', 'fresh'],
    ['--state', 'starting', '--state', 'running'],
  ]) {
    const listed = await system.json<{ sandboxId: string }[]>('ps', ...filter)
    expect(listed.map(({ sandboxId }) => sandboxId)).toContain(id)
  }
  expect(await system.ok('tag', 'fresh', 'c=d', 'e=f')).toBe(id)
  expect(await system.json('ps', '--tag', 'c=d')).toMatchObject([{ sandboxId: id, tags: { c: 'd', e: 'f' } }])
  expect(await system.json('ps', '--tag', 'a=b')).toEqual([])
  expect(await system.run(['name', 'fresh', 'other'])).toMatchObject({ code: 5 })
  await system.ok('rm', 'fresh')
  const living = await system.json<{ sandboxId: string }[]>('ps')
  expect(living.map(({ sandboxId }) => sandboxId)).not.toContain(id)
}, 60_000)

test('the sandboxes of an app are listed, and end when it is stopped', async () => {
  const made = await fetch(new URL('/v1/apps', system.env.SANDTRAIL_URL), {
    method: 'POST',
    headers: { authorization: `Bearer ${system.env.SANDTRAIL_TOKEN}`, 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'gathered', kind: 'deployed' }),
  })
  const { appId } = (await made.json()) as { appId: string }
  const inApp = await system.ok('create', '--app', appId, '--name', 'of-app')
  const outside = await system.ok('create', '--name', 'of-app')
  expect(await system.json('ps', '--app', appId)).toMatchObject([{ sandboxId: inApp, appId }])
  expect(await system.json('app', 'ls')).toMatchObject([{ appId, name: 'gathered', sandboxes: 1 }])
  expect(await system.ok('app', 'stop', 'gathered')).toBe(appId)
  expect(await system.run(['wait', inApp])).toMatchObject({ code: 137 })
  expect(await system.json('app', 'ls')).toEqual([])
  expect(await system.json('app', 'ls', '--all')).toMatchObject([{ appId, state: 'stopped', sandboxes: 0 }])
  expect(await system.run(['create', '--app', appId])).toMatchObject({ code: 5 })
  await system.ok('rm', outside)
}, 60_000)

test('a pipe goes through a program byte for byte, and ends', async () => {
  const bytes = randomBytes(3_000_000)
  const { stdout } = await system.run(['exec', sandbox, '--', 'sha256sum'], { stdin: bytes })
  expect(stdout.split(' ')[0]).toBe(createHash('sha256').update(bytes).digest('hex'))
}, 90_000)

test('a program that does not read its stdin ends all the same', async () => {
  expect(await system.run(['exec', sandbox, '--', 'true'], { stdin: randomBytes(2_000_000) })).toMatchObject({
    code: 0,
  })
}, 60_000)

test('files and directories are copied both ways', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'sandtrail-cp-'))
  try {
    const bytes = randomBytes(100_000)
    await writeFile(join(dir, 'a b'), bytes)
    await symlink('a b', join(dir, 'link'))
    await system.ok('cp', dir, `${sandbox}:/opt/copied`)
    expect(await system.ok('exec', sandbox, '--', 'readlink', '/opt/copied/link')).toBe('a b')
    const back = join(dir, 'back')
    await system.ok('cp', `${sandbox}:/opt/copied/a b`, back)
    expect((await readFile(back)).equals(bytes)).toBe(true)
    await system.ok('cp', `${sandbox}:/opt/copied`, dir)
    expect((await readFile(join(dir, 'copied', 'a b'))).equals(bytes)).toBe(true)
    // Again: into the one that is there, as into a directory of that name.
    await system.ok('cp', `${sandbox}:/opt/copied`, dir)
    expect((await readdir(join(dir, 'copied'))).sort()).toEqual(['a b', 'link'])
    const missing = await system.run(['cp', `${sandbox}:/nothing`, dir])
    expect(missing).toMatchObject({ code: 2, stderr: expect.stringContaining('/nothing'.slice(1)) })
  } finally {
    await rm(dir, { recursive: true })
  }
}, 120_000)

test.each([
  ['exec', 'exec cli -- sh -c'],
  ['run', 'run --tag reader=gone -- sh -c'],
])(
  'the program of %s does not outlive its reader',
  async (_, args) => {
    const program = `${join(ROOT, 'bin', 'sandtrail')} ${args} 'while :; do echo y; sleep 0.1; done' | head -n 1`
    const child = spawn('sh', ['-c', program], { env: { ...process.env, ...system.env }, stdio: 'ignore' })
    await new Promise((resolve) => child.on('close', resolve))
    await until(async () => {
      const { execs } = await system.json<{ execs: { state: string; argv: string[] }[] }>('describe', sandbox)
      const living = await system.json<unknown[]>('ps', '--tag', 'reader=gone')
      const open = execs.filter(({ state, argv }) => state !== 'ended' && argv.join().includes('echo y'))
      return open.length + living.length === 0
    })
  },
  60_000,
)

test('an interrupt goes to the program', async () => {
  const child = spawn(
    join(ROOT, 'bin', 'sandtrail'),
    ['exec', sandbox, '--', 'sh', '-c', 'echo up; exec sleep 60'],
    {
      env: { ...process.env, ...system.env },
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  child.stdout.once('data', () => child.kill('SIGINT'))
  const code = await new Promise((resolve) => child.on('close', resolve))
  expect(code).toBe(130)
}, 60_000)

test('a gateway that dies in the middle loses no byte and doubles none', async () => {
  const lines = 60
  const program = `i=0; while [ $i -lt ${lines} ]; do echo $i; i=$((i+1)); sleep 0.1; done; exit 9`
  const running = system.run(['exec', sandbox, '--', 'sh', '-c', program])
  await until(async () => {
    const { execs } = await system.json<{ execs: { state: string; argv: string[] }[] }>('describe', sandbox)
    return execs.some(({ state, argv }) => state === 'running' && argv.includes(program))
  })
  await system.system.kill('gateway', 'SIGKILL')
  await system.system.start('gateway')
  const { code, stdout } = await running
  expect(stdout.trim().split('\n')).toEqual(Array.from({ length: lines }, (_, i) => String(i)))
  expect(code).toBe(9)
}, 120_000)

test('an exec that was detached is attached to, from its first byte to its exit code', async () => {
  const exec = await system.ok(
    'exec',
    '--detach',
    sandbox,
    '--',
    'sh',
    '-c',
    'echo one; sleep 1; echo two; exit 5',
  )
  expect(await system.run(['attach', exec])).toMatchObject({ code: 5, stdout: 'one\ntwo\n' })
  expect(await system.run(['wait', exec])).toMatchObject({ code: 5, stdout: '5\n' })
}, 60_000)

test('the output of a main command is followed, and stays after its end', async () => {
  const id = await system.ok('create', '--', 'sh', '-c', 'echo out; echo err >&2; exit 6')
  expect(await system.run(['logs', '-f', id])).toMatchObject({ code: 0, stdout: 'out\n', stderr: 'err\n' })
  expect(await system.run(['wait', id])).toMatchObject({ code: 6 })
  expect(await system.run(['logs', id])).toMatchObject({ stdout: 'out\n', stderr: 'err\n' })
}, 60_000)

test('a main command that reads stdin is at its end at once, and a piped one is told of', async () => {
  const program = `echo x | ${join(ROOT, 'bin', 'sandtrail')} run -- cat`
  const child = spawn('sh', ['-c', program], { env: { ...process.env, ...system.env }, stdio: 'pipe' })
  let said = ''
  child.stderr.on('data', (chunk) => {
    said += chunk
  })
  const code = await new Promise((resolve) => child.on('close', resolve))
  expect({ code, said }).toEqual({ code: 0, said: expect.stringContaining('add -i') })
}, 60_000)

test('who follows a sandbox by its name hears its end, though the name is free by then', async () => {
  const id = await system.ok('create', '--name', 'short', '--', 'sh', '-c', 'echo a; sleep 2; echo b')
  const waiting = system.run(['wait', 'short'])
  expect(await system.run(['logs', '-f', 'short'])).toMatchObject({ code: 0, stdout: 'a\nb\n' })
  expect(await waiting).toMatchObject({ code: 0 })
  await until(async () =>
    (await system.run(['describe', 'short'])).stderr.includes(`was ${id}, which has ended`),
  )
}, 60_000)

test('what the trail has is verified and told by name, by prefix and by id, and what it has not is refused', async () => {
  await system.ok('volume', 'create', 'told')
  for (const name of ['cli', sandbox.slice(0, 28), 'told', 'base:latest']) {
    expect(await system.json('verify', name)).toMatchObject({ ok: true, streams: 1 })
    expect(await system.json('history', name)).not.toEqual([])
  }
  for (const args of [
    ['verify', 'nosuch'],
    ['history', 'nosuch'],
    ['verify', `sb-${'0'.repeat(26)}`],
  ]) {
    expect(await system.run(args)).toMatchObject({ code: 3, stderr: expect.stringContaining('NOT_FOUND') })
  }
}, 60_000)

test('a terminal is one inside, with the size of the one outside', async () => {
  const command = `stty rows 30 cols 100; ${join(ROOT, 'bin', 'sandtrail')} exec -it ${sandbox} -- sh -c 'tty; stty size'`
  const child = spawn('script', ['-qec', command, '/dev/null'], {
    env: { ...process.env, ...system.env },
    // Held open: at its end `script` would type an end of file.
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  let text = ''
  for await (const chunk of child.stdout) text += chunk
  child.stdin.destroy()
  expect(text).toMatch(/\/dev\/pts\/\d+\r?\n30 100/)
}, 60_000)

test.each([
  [['describe', 'nobody'], 3, 'SANDBOX_NOT_FOUND'],
  [['create', '--image', 'nothing'], 3, 'IMAGE_NOT_FOUND'],
  [['create', '--name', 'cli'], 5, 'NAME_TAKEN'],
  [['create', '--memory', '100t'], 2, 'INVALID_ARGUMENT'],
  [['create', '--timeout', 'soon'], 2, 'INVALID_ARGUMENT'],
  [['create', '--memory', '1000g'], 6, 'NO_CAPACITY'],
])('%j is refused with exit code %i', async (args, code, name) => {
  const { stderr, stdout, code: got } = await system.run(args)
  expect({ got, stdout }).toEqual({ got: code, stdout: '' })
  expect(stderr).toContain(name)
})

test('a token that was revoked is refused, and a server that is not there is told', async () => {
  const made = await system.json<{ id: string; token: string }>('token', 'create', 'short')
  await system.ok('token', 'revoke', made.id)
  const run = (env: Record<string, string>) =>
    new Promise<number>((resolve) => {
      const child = spawn(join(ROOT, 'bin', 'sandtrail'), ['ps'], {
        env: { ...process.env, ...system.env, ...env },
        stdio: 'ignore',
      })
      child.on('close', (code) => resolve(code ?? -1))
    })
  expect(await run({ SANDTRAIL_TOKEN: made.token })).toBe(4)
  expect(await run({ SANDTRAIL_URL: 'http://127.0.0.1:9' })).toBe(7)
}, 60_000)

test('doctor finds everything well', async () => {
  const { ok } = await system.json<{ ok: boolean }>('doctor')
  expect(ok).toBe(true)
}, 60_000)
