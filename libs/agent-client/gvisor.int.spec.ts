/** The agent where it lives: PID 1 of a gVisor sandbox. Skipped where no runsc is at hand. */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, globSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { agentProgram, TestAgent, TOKEN, until } from './testing.js'

const RUNSC = process.env.SANDTRAIL_RUNSC ?? globSync('/var/cache/sandtrail/runsc-*/runsc')[0]
const PLATFORM = process.env.SANDTRAIL_RUNSC_PLATFORM
const describeHere = RUNSC === undefined ? describe.skip : describe

describeHere('in gVisor', () => {
  const agent = new TestAgent()
  const bundle = join(agent.dir, 'bundle')
  const slots = join(agent.dir, 'slots')
  const id = `agent-test-${randomBytes(4).toString('hex')}`
  const flags = [
    `--root=${agent.dir}/runsc`,
    '--ignore-cgroups',
    '--overlay2=none',
    '--host-uds=open',
    '--network=none',
    ...(PLATFORM ? [`--platform=${PLATFORM}`] : []),
  ]
  let runsc: ChildProcess

  beforeAll(async () => {
    const program = agentProgram()
    execFileSync('mount', ['-t', 'tmpfs', 'slots', mkdir(slots)])
    execFileSync('mount', ['--make-shared', slots])
    writeBundle(bundle, program, agent.dir, slots)
    await agent.newSession()
    runsc = spawn(RUNSC!, [...flags, 'run', `--bundle=${bundle}`, id], {
      stdio: ['ignore', 'inherit', 'inherit'],
    })
    await agent.session.ping(30_000)
  }, 300_000)

  afterAll(async () => {
    if (runsc?.exitCode === null) {
      runsc.kill('SIGKILL')
      await once(runsc, 'exit')
    }
    execFileSync(RUNSC!, [...flags, 'delete', '-force', id], { stdio: 'ignore' })
    for (const mount of ['slots/vol', 'slots', 'runsc/null-netns']) {
      execFileSync('sh', ['-c', `umount ${agent.dir}/${mount}; :`], { stdio: 'ignore' })
    }
    await agent.stop()
    expect(agent.spool.faults).toEqual([])
  })

  test('a program runs, as root and as another user', async () => {
    await agent.run('root', ['sh', '-c', 'id -u; exit 5'])
    expect(agent.spool.text('root')).toBe('0\n')
    await agent.run('ann', ['sh', '-c', 'id -u; id -g; id -G; echo $HOME; pwd'], { user: 'ann', cwd: '/tmp' })
    expect(agent.spool.text('ann')).toBe('1000\n1001\n1001 29\n/home/ann\n/tmp\n')
  })

  test('failures have their reasons', async () => {
    const failure = async (execId: string, more: object) => {
      const outcome = await agent.session.exec({ execId, argv: ['true'], stdin: 'closed', ...more })
      return outcome.state === 'failed' ? outcome.failure.code : outcome
    }
    expect(await failure('f1', { argv: ['no-such'] })).toBe('NOT_FOUND')
    expect(await failure('f2', { argv: ['/etc/passwd'] })).toBe('NOT_EXECUTABLE')
    expect(await failure('f3', { cwd: '/no' })).toBe('BAD_CWD')
    expect(await failure('f4', { user: 'eve' })).toBe('UNKNOWN_USER')
  })

  test('nobody inside reads the token, root neither from the environment nor from the binary', async () => {
    await agent.run('environ', [
      'sh',
      '-c',
      'cat /proc/1/environ | tr -d "\\0"; cat /proc/1/cmdline | tr "\\0" " "; env',
    ])
    expect(agent.spool.text('environ')).not.toContain(TOKEN.slice(0, 8))
    expect(agent.spool.text('environ')).toContain('--socket /__modal/agent.sock')
  })

  test('output and stdin are byte-exact across sessions', async () => {
    const data = randomBytes(2 * 1024 * 1024)
    agent.spool.of('cat')
    await agent.session.exec({ execId: 'cat', argv: ['cat'], stdin: 'open' })
    await agent.session.writeStdin('cat', 0, data.subarray(0, 1_000_000))
    await agent.newSession()
    await agent.session.writeStdin('cat', 1_000_000, data.subarray(1_000_000), { eof: true })
    expect(await agent.exit('cat')).toMatchObject({ code: 0, stdoutBytes: data.length, stdoutComplete: true })
    const began = performance.now()
    const exit = await agent.run('zeros', ['head', '-c', `${64 * 1024 * 1024}`, '/dev/zero'])
    report('64 MiB of output', performance.now() - began)
    expect(exit).toMatchObject({ stdoutBytes: 64 * 1024 * 1024, stdoutComplete: true })
  }, 60_000)

  test('a terminal works, resize included', async () => {
    agent.spool.of('tty')
    const script = 'stty size; tty; read line; stty size; echo "got $line"'
    await agent.session.exec({
      execId: 'tty',
      argv: ['sh', '-c', script],
      stdin: 'open',
      pty: { rows: 11, cols: 22 },
    })
    await until(() => agent.spool.text('tty').includes('/dev/pts/'))
    await agent.session.resize('tty', { rows: 33, cols: 44 })
    // The bytes end the program, which may have happened before they are acknowledged.
    await agent.session.writeStdin('tty', 0, Buffer.from('hello\n')).catch((error) => {
      expect(error).toMatchObject({ code: 'EXEC_ENDED' })
    })
    expect(await agent.exit('tty')).toMatchObject({ code: 0, stdoutComplete: true })
    expect(agent.spool.text('tty')).toContain('33 44\r\n')
    expect(agent.spool.text('tty')).toContain('got hello\r\n')
  })

  test('a program whose terminal is resized gets SIGWINCH', async () => {
    agent.spool.of('winch')
    const script = 'trap "echo winch; exit 4" WINCH; echo ready; while :; do sleep 0.01; done'
    await agent.session.exec({
      execId: 'winch',
      argv: ['sh', '-c', script],
      stdin: 'closed',
      pty: { rows: 1, cols: 1 },
    })
    await until(() => agent.spool.text('winch').includes('ready'))
    await agent.session.resize('winch', { rows: 2, cols: 2 })
    expect(await agent.exit('winch')).toMatchObject({ code: 4 })
  })

  test('signals, groups, timeouts and orphans', async () => {
    await agent.session.exec({
      execId: 'group',
      argv: ['sh', '-c', 'sleep 1000 & sleep 1000'],
      stdin: 'closed',
    })
    await agent.session.signal('group', 9)
    expect(await agent.exit('group')).toMatchObject({ signal: 9, stdoutComplete: true })
    expect(await agent.run('slow', ['sleep', '1000'], { timeoutMs: 100 })).toMatchObject({
      signal: 9,
      timedOut: true,
    })
    await agent.run('orphan', ['sh', '-c', '(sleep 0.05 &)'])
    await agent.run('zombies', ['sh', '-c', 'sleep 0.2; grep -l "State:.Z" /proc/[0-9]*/status; :'])
    expect(agent.spool.text('zombies')).toBe('')
  })

  test('a directory from the slots is bound, read-write and read-only, and goes again', async () => {
    mkdirSync(join(slots, 'vol'))
    execFileSync('mount', ['-t', 'tmpfs', 'vol', join(slots, 'vol')])
    writeFileSync(join(slots, 'vol/file'), 'from outside\n')
    const bind = { source: '/.sandtrail/slots/vol', target: '/data/deep', readOnly: false }
    await agent.session.bind(bind)
    await agent.session.bind(bind)
    await agent.run('rw', ['sh', '-c', 'cat /data/deep/file; echo inside > /data/deep/new'])
    expect(agent.spool.text('rw')).toBe('from outside\n')
    expect(readFileSync(join(slots, 'vol/new'), 'utf8')).toBe('inside\n')
    await expect(agent.session.bind({ ...bind, readOnly: true })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    })
    await agent.session.bind({ ...bind, readOnly: true, replace: true })
    expect(await agent.session.mounts()).toEqual([{ ...bind, readOnly: true }])
    expect(await agent.run('ro', ['sh', '-c', 'echo x > /data/deep/new'])).toMatchObject({
      code: expect.anything(),
    })
    expect(agent.spool.text('ro', 'stderr')).toMatch(/Read-only/)
    await agent.session.unbind({ target: '/data/deep' })
    await agent.run('gone', ['ls', '/data/deep'])
    expect(agent.spool.text('gone')).toBe('')
    await agent.session.sync(10_000)
  })

  test('shutdown ends everything inside, hands over the exits, and the sandbox is over', async () => {
    agent.spool.of('last')
    agent.spool.of('stubborn')
    const script = 'trap "echo bye; exit 9" TERM; echo ready; while :; do sleep 0.01; done'
    await agent.session.exec({ execId: 'last', argv: ['sh', '-c', script], stdin: 'closed' })
    await agent.session.exec({
      execId: 'stubborn',
      argv: ['sh', '-c', 'trap "" TERM; echo ready; sleep 1000'],
      stdin: 'closed',
    })
    await until(() => ['last', 'stubborn'].every((execId) => agent.spool.text(execId) === 'ready\n'))
    const gone = once(runsc, 'exit')
    await agent.session.shutdown(300)
    expect(await agent.exit('last')).toMatchObject({ code: 9 })
    expect(agent.spool.text('last')).toBe('ready\nbye\n')
    expect(await agent.exit('stubborn')).toMatchObject({ signal: 9 })
    expect(await gone).toEqual([0, null])
  })
})

function report(what: string, ms: number): void {
  process.stderr.write(`gVisor: ${what}: ${ms.toFixed(1)} ms\n`)
}

function mkdir(path: string): string {
  mkdirSync(path, { recursive: true })
  return path
}

/** The host's programs, read-only, under a root of our own. */
function writeBundle(bundle: string, program: string, socketDir: string, slots: string): void {
  const root = join(bundle, 'root')
  for (const dir of ['proc', 'dev', 'tmp', 'etc', 'usr', '__modal', '.sandtrail/slots', 'home/ann']) {
    mkdir(join(root, dir))
  }
  const links = ['bin', 'lib', 'lib64', 'sbin'].filter((name) => existsSync(`/usr/${name}`))
  for (const name of links) symlinkSync(`usr/${name}`, join(root, name))
  writeFileSync(join(root, '.sandtrail/agent'), '')
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\n')
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\nann:x:1001:\naudio:x:29:ann\n')
  const bind = (source: string, destination: string, ...options: string[]) => ({
    type: 'bind',
    source,
    destination,
    options: ['rbind', ...options],
  })
  const spec = {
    ociVersion: '1.0.0',
    process: {
      args: ['/.sandtrail/agent', '--socket', '/__modal/agent.sock'],
      env: [`SANDTRAIL_AGENT_TOKEN=${TOKEN}`, 'PATH=/usr/bin:/bin'],
      cwd: '/',
      user: { uid: 0, gid: 0 },
      capabilities: Object.fromEntries(
        ['bounding', 'effective', 'permitted'].map((set) => [
          set,
          ['CAP_SYS_ADMIN', 'CAP_SETUID', 'CAP_SETGID', 'CAP_KILL', 'CAP_CHOWN', 'CAP_DAC_OVERRIDE'],
        ]),
      ),
    },
    root: { path: 'root' },
    mounts: [
      { type: 'proc', source: 'proc', destination: '/proc' },
      { type: 'tmpfs', source: 'dev', destination: '/dev' },
      bind('/usr', '/usr', 'ro'),
      bind(program, '/.sandtrail/agent', 'ro'),
      bind(socketDir, '/__modal', 'ro'),
      bind(slots, '/.sandtrail/slots', 'rslave'),
    ],
    linux: { namespaces: ['pid', 'mount', 'ipc', 'uts', 'network'].map((type) => ({ type })) },
  }
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(spec))
}
