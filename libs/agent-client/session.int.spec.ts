import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import type { OutputSink } from './index.js'
import { TestAgent, TOKEN, until } from './testing.js'

let agent: TestAgent

beforeAll(async () => {
  agent = await new TestAgent().start()
}, 300_000)

afterAll(async () => {
  await agent.stop()
  expect(agent.spool.faults).toEqual([])
})

function isAlive(pid: number): boolean {
  try {
    return readlinkSync(`/proc/${pid}/exe`) !== ''
  } catch {
    return false
  }
}

const sha256 = (data: Buffer | string) => createHash('sha256').update(data).digest('hex')

test('a program gets its argv, environment, directory and nothing of the agent', async () => {
  const script = 'pwd; env | sort; echo "$0 $1"; ls /proc/self/fd; echo oops >&2; exit 7'
  const exit = await agent.run('spec', ['sh', '-c', script, 'zero', 'two words'], {
    env: { A: 'b=c', PATH: '/usr/bin:/bin' },
    cwd: '/tmp',
  })
  expect(exit).toMatchObject({ code: 7, signal: null, timedOut: false, stdoutComplete: true })
  expect(agent.spool.text('spec').split('\n')).toEqual(
    '/tmp\nA=b=c\nHOME=/root\nPATH=/usr/bin:/bin\nPWD=/tmp\nzero two words\n0\n1\n2\n3\n'.split('\n'),
  )
  expect(agent.spool.text('spec', 'stderr')).toBe('oops\n')
})

test('a program starts with no signal ignored or blocked', async () => {
  await agent.run('signals', ['grep', '-E', '^Sig(Blk|Ign)', '/proc/self/status'])
  // 32 and 33 are the C library's own: no program can set them, so they stay as whoever started the agent had them.
  const ofLibrary = 3n << 31n
  const masks = [...agent.spool.text('signals').matchAll(/:\t([0-9a-f]{16})/g)].map(([, mask]) =>
    BigInt(`0x${mask}`),
  )
  expect(masks.map((mask) => mask & ~ofLibrary)).toEqual([0n, 0n])
})

test('a program runs as the user that was asked for', async () => {
  await agent.run('user', ['id'], { user: 'daemon' })
  expect(agent.spool.text('user')).toBe('uid=1(daemon) gid=1(daemon) groups=1(daemon)\n')
  await agent.run('uid', ['sh', '-c', 'id -u; id -g; id -G; echo $HOME'], { user: '4242:77' })
  expect(agent.spool.text('uid')).toBe('4242\n77\n77\n/\n')
})

test.each([
  ['not-found', ['no-such-program'], {}, 'NOT_FOUND', 127],
  ['no-path', ['/no/such/program'], {}, 'NOT_FOUND', 127],
  ['not-executable', ['/etc/passwd'], {}, 'NOT_EXECUTABLE', 126],
  ['a-directory', ['/tmp'], {}, 'NOT_EXECUTABLE', 126],
  ['bad-cwd', ['true'], { cwd: '/no/such/dir' }, 'BAD_CWD', 126],
  ['closed-cwd', ['true'], { cwd: '/root', user: 'daemon' }, 'BAD_CWD', 126],
  ['unknown-user', ['true'], { user: 'nobody-here' }, 'UNKNOWN_USER', 126],
  ['unknown-group', ['true'], { user: 'root:nobody-here' }, 'UNKNOWN_USER', 126],
  ['nul', ['true', 'a\0b'], {}, 'INVALID', 125],
  ['empty', [], {}, 'INVALID', 125],
  ['too-long', ['true', 'x'.repeat(200_000)], {}, 'TOO_LONG', 126],
])('%s never runs and says why, each time it is asked', async (execId, argv, more, code, exitCode) => {
  const request = { execId, argv, stdin: 'closed' as const, ...more }
  const outcome = await agent.session.exec(request)
  expect(outcome).toMatchObject({ state: 'failed', failure: { code, exitCode } })
  expect(await agent.session.exec({ ...request, argv: ['true'] })).toEqual(outcome)
  expect(await agent.session.execState(execId)).toEqual(outcome)
})

test('an exec id runs once, asked at once, after its end and by another session', async () => {
  const file = join(agent.dir, 'lines')
  const request = { execId: 'once', argv: ['sh', '-c', `echo x >> ${file}`], stdin: 'closed' as const }
  const outcomes = await Promise.all(Array.from({ length: 10 }, () => agent.session.exec(request)))
  expect(new Set(outcomes.map((outcome) => (outcome.state === 'started' ? outcome.pid : 0))).size).toBe(1)
  await agent.exit('once')
  await until(async () => (await agent.session.exec(request)).state === 'exited')
  await agent.newSession()
  expect(await agent.session.exec(request)).toMatchObject({ state: 'exited', exit: { code: 0 } })
  expect(await agent.session.execState('never')).toEqual({ state: 'unknown' })
  expect(readFileSync(file, 'utf8')).toBe('x\n')
})

test('64 MiB come byte-exact while the session is replaced again and again', async () => {
  const bytes = 64 * 1024 * 1024
  agent.spool.of('big')
  const print = `seq 1 10000000 | head -c ${bytes}`
  const argv = ['sh', '-c', `${print}; seq 1 1000 >&2`]
  await agent.session.exec({ execId: 'big', argv, stdin: 'closed' })
  for (let mib = 6; mib <= 48; mib += 6) {
    await until(() => agent.spool.of('big').stdout.bytes >= mib * 1024 * 1024)
    if (mib % 12 === 0) {
      await agent.newSession()
      continue
    }
    // Like a kill -9: what arrives from now on is taken by nobody, and yet not lost.
    let swallowed = 0
    const dying: OutputSink = {
      durableOffsets: () => agent.spool.durableOffsets(),
      append: async () => {
        swallowed += 1
        throw new Error('killed')
      },
    }
    await agent.newSession(dying)
    await until(() => swallowed > 0)
    await agent.newSession()
  }
  expect(await agent.exit('big')).toMatchObject({ code: 0, stdoutBytes: bytes, stdoutComplete: true })
  expect(agent.spool.sha256('big')).toBe(sha256(execFileSync('sh', ['-c', print], { maxBuffer: bytes })))
  expect(agent.spool.sha256('big', 'stderr')).toBe(
    sha256(Array.from({ length: 1000 }, (_, n) => `${n + 1}\n`).join('')),
  )
}, 120_000)

test('an exit is held until it is acknowledged, by whichever session', async () => {
  agent.acknowledges = false
  const first = await agent.run('held', ['sh', '-c', 'echo out; exit 3'])
  const told = () => agent.exits.filter(({ execId }) => execId === 'held').length
  await agent.newSession()
  await until(() => told() === 2)
  agent.acknowledges = true
  await agent.newSession()
  await until(() => told() === 3)
  await until(async () => (await agent.session.execState('held')).state === 'exited')
  expect(agent.exits.filter(({ execId }) => execId === 'held').map(({ exit }) => exit)).toEqual([
    first,
    first,
    first,
  ])
  await agent.newSession()
  await agent.session.ping()
  expect(told()).toBe(3)
  expect(agent.spool.text('held')).toBe('out\n')
})

test('an exit that happens while no session is there is told to the next', async () => {
  agent.spool.of('away')
  const signal = join(tmpdir(), `sandtrail-away-${randomBytes(6).toString('hex')}`)
  const outcome = await agent.session.exec({
    execId: 'away',
    argv: ['sh', '-c', `while [ ! -e ${signal} ]; do sleep 0.05; done; echo late`],
    stdin: 'closed',
  })
  await agent.session.stop()
  writeFileSync(signal, '')
  await until(() => outcome.state === 'started' && !isAlive(outcome.pid))
  rmSync(signal)
  await agent.newSession()
  expect(await agent.exit('away')).toMatchObject({ code: 0 })
  expect(agent.spool.text('away')).toBe('late\n')
})

test('stdin goes through byte-exact, repetitions skipped, across sessions', async () => {
  const data = randomBytes(3 * 1024 * 1024)
  agent.spool.of('cat')
  await agent.session.exec({ execId: 'cat', argv: ['cat'], stdin: 'open' })
  const third = 1024 * 1024
  expect(await agent.session.writeStdin('cat', 0, data.subarray(0, third))).toEqual({ acceptedTo: third })
  await agent.newSession()
  await agent.session.execState('cat')
  await agent.session.writeStdin('cat', third - 1000, data.subarray(third - 1000, 2 * third))
  await expect(agent.session.writeStdin('cat', 2 * third + 1, Buffer.from('x'))).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
  })
  await orEnded(agent.session.writeStdin('cat', 2 * third, data.subarray(2 * third), { eof: true }))
  await agent.session.writeStdin('cat', data.length, Buffer.alloc(0), { eof: true }).catch(() => {})
  expect(await agent.exit('cat')).toMatchObject({ code: 0, stdoutBytes: data.length })
  expect(agent.spool.sha256('cat')).toBe(sha256(data))
})

test('a program that does not read holds the writer back, and its end refuses what waits', async () => {
  await agent.session.exec({ execId: 'deaf', argv: ['sleep', '1000'], stdin: 'open' })
  const abort = new AbortController()
  const given = agent.session.writeStdin('deaf', 0, Buffer.alloc(1024 * 1024), { signal: abort.signal })
  const second = agent.session.writeStdin('deaf', 1024 * 1024, Buffer.from('x'))
  await agent.session.ping()
  abort.abort()
  await expect(given).rejects.toMatchObject({ name: 'AbortError' })
  // The pipe's 64 KiB and the agent's, not the rest.
  await expect(second).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  const waiting = agent.session.writeStdin('deaf', 0, Buffer.alloc(1024 * 1024))
  await agent.session.signal('deaf', 9)
  await expect(waiting).rejects.toMatchObject({ code: 'EXEC_ENDED' })
  expect(await agent.exit('deaf')).toMatchObject({ code: null, signal: 9, timedOut: false })
  await until(async () => (await agent.session.execState('deaf')).state === 'exited')
  await expect(agent.session.signal('deaf', 9)).rejects.toMatchObject({ code: 'EXEC_ENDED' })
  await expect(agent.session.writeStdin('deaf', 0, Buffer.from('x'))).rejects.toMatchObject({
    code: 'EXEC_ENDED',
  })
  await expect(agent.session.signal('never', 9)).rejects.toMatchObject({ code: 'EXEC_NOT_FOUND' })
  await expect(agent.session.writeStdin('never', 0, Buffer.from('x'))).rejects.toMatchObject({
    code: 'EXEC_NOT_FOUND',
  })
})

test('a program whose stdin nobody reads any more breaks the pipe only', async () => {
  await agent.session.exec({
    execId: 'mute',
    argv: ['sh', '-c', 'exec 0<&-; exec sleep 1000'],
    stdin: 'open',
  })
  await expect(
    (async () => {
      for (let offset = 0; ; offset += 65_536)
        await agent.session.writeStdin('mute', offset, Buffer.alloc(65_536))
    })(),
  ).rejects.toMatchObject({ code: 'EXEC_ENDED' })
  await agent.session.signal('mute', 15)
  expect(await agent.exit('mute')).toMatchObject({ signal: 15 })
})

test('a terminal echoes, merges its output, and can be resized', async () => {
  agent.spool.of('tty')
  const script = 'stty size; tty; echo err >&2; read line; stty size; echo "got $line"; cat; echo end'
  await agent.session.exec({
    execId: 'tty',
    argv: ['sh', '-c', script],
    stdin: 'open',
    pty: { rows: 11, cols: 22 },
  })
  await until(() => agent.spool.text('tty').includes('err'))
  await agent.session.resize('tty', { rows: 33, cols: 44 })
  await orEnded(agent.session.writeStdin('tty', 0, Buffer.from('hello\n'), { eof: true }))
  expect(await agent.exit('tty')).toMatchObject({ code: 0, stderrBytes: 0, stderrComplete: true })
  expect(agent.spool.text('tty')).toMatch(
    /^11 22\r\n\/dev\/pts\/\d+\r\nerr\r\nhello\r\n33 44\r\ngot hello\r\n(\^D.{2})?end\r\n$/s,
  )
  await agent.run('no-tty', ['sh', '-c', 'tty'])
  expect(agent.spool.text('no-tty')).toBe('not a tty\n')
})

test('a resize is refused without a terminal', async () => {
  await agent.session.exec({ execId: 'plain', argv: ['sleep', '1000'], stdin: 'closed' })
  await expect(agent.session.resize('plain', { rows: 1, cols: 1 })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
  })
  await agent.session.signal('plain', 9)
  await agent.exit('plain')
})

test('a program whose terminal it is gets SIGWINCH and ^C', async () => {
  agent.spool.of('winch')
  const script =
    'trap "echo winch" WINCH; trap "echo int; exit 4" INT; echo ready; while :; do sleep 0.01; done'
  await agent.session.exec({
    execId: 'winch',
    argv: ['sh', '-c', script],
    stdin: 'open',
    pty: { rows: 1, cols: 1 },
  })
  await until(() => agent.spool.text('winch').includes('ready'))
  await agent.session.resize('winch', { rows: 2, cols: 2 })
  await until(() => agent.spool.text('winch').includes('winch'))
  await orEnded(agent.session.writeStdin('winch', 0, Buffer.from('\x03')))
  expect(await agent.exit('winch')).toMatchObject({ code: 4 })
})

test('a signal reaches the whole process group', async () => {
  agent.spool.of('group')
  const argv = ['sh', '-c', 'sleep 1000 & sleep 1000 & echo $!; wait']
  await agent.session.exec({ execId: 'group', argv, stdin: 'closed' })
  await until(() => agent.spool.text('group').endsWith('\n'))
  const child = Number(agent.spool.text('group'))
  expect(isAlive(child)).toBe(true)
  await agent.session.signal('group', 9)
  expect(await agent.exit('group')).toMatchObject({ signal: 9, stdoutComplete: true })
  await until(() => !isAlive(child))
})

test.each([1, 2, 10, 15, 34, 64])('signal %d ends a program that does not catch it', async (signal) => {
  const execId = `signal-${signal}`
  await agent.session.exec({ execId, argv: ['sleep', '1000'], stdin: 'closed' })
  await agent.session.signal(execId, signal)
  expect(await agent.exit(execId)).toMatchObject({ code: null, signal })
})

test('the timeout kills the group and says so', async () => {
  const exit = await agent.run('slow', ['sh', '-c', 'echo on; sleep 1000; :'], { timeoutMs: 200 })
  expect(exit).toMatchObject({ signal: 9, timedOut: true, stdoutBytes: 3, stdoutComplete: true })
  expect(exit.ranMs).toBeGreaterThanOrEqual(200)
})

test('a background child that holds the output does not hold the exit, nor dies of what it prints later', async () => {
  const file = join(agent.dir, 'daemon')
  const daemon = `while [ ! -e ${file} ]; do echo tick; sleep 0.05; done; echo tock && echo alive > ${file}`
  // The daemon waits for a file that is written below: an exit that it held would never come.
  const exit = await agent.run('daemon', ['sh', '-c', `(${daemon}) & echo main`])
  expect(exit).toMatchObject({ code: 0, stdoutComplete: false, stderrComplete: false })
  expect(agent.spool.of('daemon').stdout.bytes).toBe(exit.stdoutBytes)
  expect(agent.spool.text('daemon')).toContain('main\n')
  await agent.run('touch', ['touch', file])
  await until(() => readFileSync(file, 'utf8') === 'alive\n')
})

test('a sink that takes nothing holds the program back, not the memory of the agent', async () => {
  const release = Promise.withResolvers<void>()
  await agent.newSession({
    durableOffsets: () => agent.spool.durableOffsets(),
    append: async (...piece) => {
      await release.promise
      await agent.spool.append(...piece)
    },
  })
  const bytes = 32 * 1024 * 1024
  agent.spool.of('blocked')
  const argv = ['sh', '-c', `seq 1 10000000 | head -c ${bytes}`]
  await agent.session.exec({ execId: 'blocked', argv, stdin: 'closed' })
  await until(() => rssKiB() > 0)
  await agent.session.ping()
  expect(rssKiB()).toBeLessThan(4 * 1024)
  release.resolve()
  expect(await agent.exit('blocked')).toMatchObject({ stdoutBytes: bytes })
  expect(rssKiB()).toBeLessThan(4 * 1024)
  await agent.newSession()
})

function rssKiB(): number {
  return Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${agent.pid}/status`, 'utf8'))?.[1])
}

test('twenty programs that print at once all come through', async () => {
  const ids = Array.from({ length: 20 }, (_, n) => `many-${n}`)
  const exits = await Promise.all(ids.map((id) => agent.run(id, ['sh', '-c', 'seq 1 200000'])))
  const whole = sha256(Array.from({ length: 200_000 }, (_, n) => `${n + 1}\n`).join(''))
  for (const exit of exits) expect(exit).toMatchObject({ code: 0, stdoutComplete: true })
  expect(new Set(ids.map((id) => agent.spool.sha256(id)))).toEqual(new Set([whole]))
})

test('orphans are reaped', async () => {
  agent.spool.of('orphan')
  await agent.run('orphan', ['sh', '-c', '(sh -c "sleep 0.05 & echo \\$!" >&1 2>/dev/null)'])
  const orphan = Number(agent.spool.text('orphan'))
  await until(() => {
    try {
      readFileSync(`/proc/${orphan}/stat`)
      return false
    } catch {
      return true
    }
  })
})

test('the environment of the agent shows neither the token nor anything else', () => {
  const environ = readFileSync(`/proc/${agent.pid}/environ`, 'latin1')
  expect(environ).not.toContain(TOKEN.slice(0, 8))
  expect(environ.replaceAll('\0', '')).toBe('')
})

test('sync answers, and mounts are told', async () => {
  await agent.session.sync(60_000)
  expect(await agent.session.mounts()).toEqual([])
  await expect(agent.session.unbind({ target: '/nothing' })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
  })
}, 70_000)

test('a long spec goes in pieces', async () => {
  const env = Object.fromEntries(Array.from({ length: 40 }, (_, n) => [`V${n}`, `${n}`.repeat(20_000)]))
  await agent.run('long', ['sh', '-c', 'printenv V7 | wc -c; printenv V39 | wc -c'], { env })
  expect(agent.spool.text('long')).toBe('20001\n40001\n')
})

test('without an agent a request says that it is unreachable when its deadline is over', async () => {
  const other = new TestAgent()
  await other.newSession()
  const request = { execId: 'x', argv: ['true'], stdin: 'closed' as const }
  await expect(other.session.exec(request, 50)).rejects.toMatchObject({ code: 'AGENT_UNREACHABLE' })
  const waiting = other.session.ping()
  await other.session.stop()
  await expect(waiting).rejects.toMatchObject({ code: 'AGENT_UNREACHABLE' })
  await other.session.stop()
  await other.stop()
})

/** Bytes that end the program may have done so before they are acknowledged. */
async function orEnded(writing: Promise<unknown>): Promise<void> {
  await writing.catch((error) => expect(error).toMatchObject({ code: 'EXEC_ENDED' }))
}
