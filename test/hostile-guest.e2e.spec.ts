/**
 * Guests that attack themselves, their agent, their neighbours and the services (docs/security.md). Whatever they do:
 * the limit holds, a neighbour's exec answers, no service restarts or grows without bound, what became of the guest is
 * told by an honest event, and nothing of it is left on the host.
 *
 * SOAK=1 (`make soak`): larger, and more often.
 */

import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { describeFinding } from './checker/finding.js'
import { judgeHost, takeInventory } from './checker/host.js'
import { newCommand, type Ran, ROOT, TestSystem, until } from './system.js'

const MIB = 1024 ** 2
const isSoak = process.env.SOAK === '1'
const GUEST = readFileSync(join(ROOT, 'test', 'hostile', 'guest.py'), 'utf8')
/** Resident, beyond what a service had when all that is done here had been done once in a small way. */
const GROWTH_MAX_MIB = 128
const SAMPLE_MS = 250

let system: TestSystem
let neighbour: string
let pids: string
let sizesBefore: Map<string, number>
let sampling: NodeJS.Timeout
const peaks = new Map<string, number>()
/** Guests that have stopped their agent: it takes half a minute until that is noticed, so they begin first. */
const stopped: Record<string, { id: string; exec: Promise<Ran> }> = {}

beforeAll(async () => {
  system = await TestSystem.start()
  neighbour = await system.ok('create', '--memory', '256m', '--timeout', '60m')
  // Once before, so that buffers and compiled code are in the first figure too.
  await system.ok('exec', neighbour, '--', 'sh', '-c', 'head -c 50000000 /dev/zero | tee /dev/stderr')
  pids = servicePids()
  sizesBefore = residentBytes()
  sampling = setInterval(() => {
    for (const [name, bytes] of residentBytes()) peaks.set(name, Math.max(peaks.get(name) ?? 0, bytes))
  }, SAMPLE_MS)
  for (const [name, act] of [
    ['SIGSTOP', ['sh', '-c', 'kill -STOP 1; sleep 600']],
    ['ptrace', ['python3', '-c', GUEST, 'trace-the-agent']],
  ] as const) {
    const id = await guest()
    stopped[name] = { id, exec: system.run(['exec', id, '--', ...act], { timeoutMs: 150_000 }) }
  }
}, 180_000)

afterAll(async () => {
  clearInterval(sampling)
  await system?.stop()
}, 90_000)

/** The neighbour is asked again and again while a guest does its worst. */
let asking: Promise<number>
let isOver = false
beforeEach(() => {
  isOver = false
  asking = askNeighbour()
})
afterEach(async () => {
  isOver = true
  expect(await asking).toBeGreaterThan(0)
  expect(servicePids()).toBe(pids)
}, 90_000)

async function askNeighbour(): Promise<number> {
  for (let answers = 0; ; answers++) {
    expect(await system.run(['exec', neighbour, '--', 'echo', 'here'])).toMatchObject({
      code: 0,
      stdout: 'here\n',
    })
    if (isOver) return answers + 1
    await new Promise((resolve) => setTimeout(resolve, 500))
  }
}

function services() {
  return system.system.services().filter(({ name }) => !/^(postgres|nats)/.test(name))
}

const servicePids = () => JSON.stringify(services().map(({ name, pid }) => [name, pid]))

function residentBytes(): Map<string, number> {
  return new Map(
    services().map(({ name, pid }) => {
      const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
      return [name, Number(kib) * 1024]
    }),
  )
}

function guest(...options: string[]): Promise<string> {
  return system.ok('create', '--memory', '256m', '--timeout', '30m', ...options)
}

/** Runs an act of test/hostile/guest.py in a guest. */
function act(id: string, ...args: string[]): Promise<Ran> {
  return system.run(['exec', id, '--', 'python3', '-c', GUEST, ...args], { timeoutMs: 120_000 })
}

async function endOf(id: string) {
  return until(async () => (await system.history(id)).find(({ data }) => 'exitCode' in data))
}

const stillAnswers = async (id: string) =>
  expect(await system.ok('exec', id, '--', 'echo', 'whole')).toBe('whole')

async function http<T>(method: string, path: string, body?: object): Promise<T> {
  const response = await fetch(`${system.env.SANDTRAIL_URL}${path}`, {
    method,
    headers: { authorization: `Bearer ${system.env.SANDTRAIL_TOKEN}`, 'content-type': 'application/json' },
    ...(body && { body: JSON.stringify(body) }),
  })
  return (await response.json()) as T
}

describe('what it uses up is its own', () => {
  test.each([
    ['processes', ['python3', '-c', GUEST, 'fork-bomb']],
    ['a shell fork bomb', ['sh', '-c', 'b() { b | b & }; b; sleep 600']],
    ['/dev/shm and /dev', ['sh', '-c', 'cat /dev/zero > /dev/shm/x; cat /dev/zero > /dev/y']],
  ])(
    '%s: the sandbox ends, out of memory, and says so',
    async (_, argv) => {
      const id = await guest()
      expect(await system.run(['exec', id, '--', ...argv], { timeoutMs: 120_000 })).toMatchObject({
        code: 137,
        stderr: expect.stringContaining('OUT_OF_MEMORY'),
      })
      expect((await endOf(id))?.data).toMatchObject({ code: 'OUT_OF_MEMORY', exitCode: 137 })
    },
    150_000,
  )

  test('open files: the limit is its own, and it lives on', async () => {
    const id = await guest()
    expect(await act(id, 'open-files')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^655\d\d Too many open files$/m),
    })
    await stillAnswers(id)
    await system.ok('rm', id)
  }, 120_000)

  test('many files', async () => {
    const id = await guest()
    const count = isSoak ? '100000' : '20000'
    expect(await act(id, 'many-files', count)).toMatchObject({ code: 0, stdout: `${count}\n` })
    await system.ok('rm', id)
  }, 150_000)

  test('names alone fill the quota, and what was there before stays', async () => {
    const nats = await system.nats()
    const body = { diskLimitBytes: 4 * MIB, timeoutMs: 1_800_000 }
    const created = await nats.request('req.sandbox.create', body, { headers: newCommand() })
    await nats.close()
    const id = String(created.sandboxId)
    await system.ok('exec', id, '--', 'sh', '-c', 'echo before > /root/before; sync')
    expect(await act(id, 'fill-quota-with-files')).toMatchObject({ code: 0, stdout: 'Disk quota exceeded\n' })
    expect(await system.ok('exec', id, '--', 'cat', '/root/before')).toBe('before')
    await system.ok('rm', id)
  }, 150_000)
})

describe('a flood of output is counted to the last byte', () => {
  const BYTES = isSoak ? 1024 * MIB : 100 * MIB
  const WRITES = isSoak ? 1_000_000 : 100_000

  interface Ended {
    state: string
    stdout: { bytes: number }
    stderr: { bytes: number }
  }

  async function flooded(id: string, argv: string[], pty = false) {
    const { execId } = await http<{ execId: string }>('POST', `/v1/sandboxes/${id}/execs`, {
      argv,
      ...(pty ? { pty: { rows: 24, cols: 80 } } : {}),
    })
    return until(async () => {
      const view = await http<Ended>('GET', `/v1/execs/${execId}/wait?timeoutMs=10000`)
      return view.state === 'ended' && view
    })
  }

  test('on stdout and stderr, without a newline, in single bytes, and on a terminal, all at once', async () => {
    const id = await guest()
    const ends = await Promise.all([
      flooded(id, ['head', '-c', `${BYTES}`, '/dev/zero']),
      flooded(id, ['sh', '-c', `head -c ${BYTES} /dev/zero >&2`]),
      flooded(id, ['python3', '-c', GUEST, 'one-byte-writes', `${WRITES}`]),
      flooded(id, ['head', '-c', `${BYTES / 10}`, '/dev/zero'], true),
    ])
    expect(ends.map(({ stdout, stderr }) => [stdout.bytes, stderr.bytes])).toEqual([
      [BYTES, 0],
      [0, BYTES],
      [WRITES, WRITES],
      [BYTES / 10, 0],
    ])
    await stillAnswers(id)
    await system.ok('rm', id)
  }, 240_000)
})

describe('its agent', () => {
  test('is not killed by kill -9 -1', async () => {
    const id = await guest()
    expect((await system.run(['exec', id, '--', 'sh', '-c', 'kill -9 -1; echo on'])).stdout).toBe('on\n')
    await stillAnswers(id)
    await system.ok('rm', id)
  }, 60_000)

  test('is killed by kill -9 1, and the sandbox with it: the exec is lost, and both say so', async () => {
    const id = await guest()
    expect(await system.run(['exec', id, '--', 'sh', '-c', 'kill -9 1; sleep 60'])).toMatchObject({
      code: 125,
      stderr: expect.stringContaining('SANDBOX_DIED'),
    })
    expect((await endOf(id))?.data).toMatchObject({ code: 'SANDBOX_DIED' })
  }, 60_000)

  test('is not disturbed by nonsense on its socket', async () => {
    const id = await guest()
    const [work, noise] = await Promise.all([
      system.run(['exec', id, '--', 'sh', '-c', 'for i in 1 2 3 4 5 6; do echo $i; sleep 0.5; done']),
      act(id, 'storm', isSoak ? '30' : '4'),
    ])
    expect(work).toMatchObject({ code: 0, stdout: '1\n2\n3\n4\n5\n6\n' })
    expect(Number(noise.stdout)).toBeGreaterThan(100)
    await system.ok('rm', id)
  }, 90_000)

  test('impersonated with the token out of its memory, costs its own sandbox and nobody else', async () => {
    const id = await guest()
    const { stdout } = await act(id, 'impersonate')
    console.info(`impersonate: ${stdout.trim()}`)
    // The agent that it is takes its place again, or the sandbox has ended; the neighbour is asked all the while.
    const after = await system.run(['exec', id, '--', 'echo', 'whole'])
    if (after.code !== 0)
      expect((await endOf(id))?.data).toMatchObject({ code: expect.stringMatching(/^[A-Z_]+$/) })
    // Else it was not tried.
    else expect(stdout).toMatch(/^tokens [1-9]\d* heard [1-9]/)
    await system.ok('rm', id)
  }, 120_000)

  test('tells nobody its token by its environment', async () => {
    const id = await guest()
    expect(await system.ok('exec', id, '--', 'sh', '-c', 'tr -d "\\0" < /proc/1/environ')).toBe('')
    await system.ok('rm', id)
  }, 60_000)
})

test('its clocks are not its own to set', async () => {
  const id = await guest()
  // Both were tried, and neither was set.
  expect(await act(id, 'set-clocks')).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^(?!set\n).+\n(?!set\n).+\n$/),
  })
  await system.ok('rm', id)
}, 60_000)

describe('sandtrail cp', () => {
  let here: string
  beforeEach(() => {
    here = mkdtempSync(join(tmpdir(), 'sandtrail-cp-'))
  })
  afterEach(() => rmSync(here, { recursive: true }))

  test('writes nothing outside of its target, whatever the tar in the sandbox says', async () => {
    const id = await guest()
    const [target, outside] = [join(here, 'target'), join(here, 'outside')]
    mkdirSync(target)
    writeFileSync(outside, 'untouched')
    await system.run(['exec', id, '--', 'sh', '-c', 'cat > /guest.py'], { stdin: GUEST })
    const tar = '#!/bin/sh\nexec python3 /guest.py lying-tar\n'
    await system.ok('exec', id, '--', 'sh', '-c', `mkdir -p /tree; echo ${outside} > /outside`)
    await system.run(
      ['exec', id, '--', 'sh', '-c', 'cat > /usr/local/bin/tar; chmod +x /usr/local/bin/tar'],
      {
        stdin: tar,
      },
    )
    for (const round of ['1', '2', '3']) {
      await system.ok('exec', id, '--', 'sh', '-c', `echo ${round} > /round`)
      const copied = await system.run(['cp', `${id}:/tree`, target])
      // The last one is for the most part refused by tar itself.
      if (round !== '3') expect(copied).toMatchObject({ code: 0 })
      expect([round, readFileSync(outside, 'utf8')]).toEqual([round, 'untouched'])
    }
    const tree = join(target, 'tree')
    expect(readdirSync(tree).filter((name) => ['kernel-log', 'pipe'].includes(name))).toEqual([])
    expect(lstatSync(join(tree, 'root')).mode & 0o7000).toBe(0)
    expect(readFileSync(join(tree, 'link'), 'utf8')).toBe('written through a link')
    await system.ok('rm', id)
  }, 120_000)

  test('brings a link as a link while a directory is swapped for one', async () => {
    const id = await guest()
    await system.ok('exec', '--detach', id, '--', 'python3', '-c', GUEST, 'swap-a-directory')
    for (let copy = 0; copy < (isSoak ? 50 : 3); copy++) {
      const target = join(here, `${copy}`)
      await system.run(['cp', `${id}:/root/swapped`, target]) // tar may find that something is gone.
      const found = lstatSync(join(target, 'deep'), { throwIfNoEntry: false })
      if (found?.isDirectory()) expect(readdirSync(join(target, 'deep'))).toEqual(['passwd'])
      await system.run(['cp', join(ROOT, 'LICENSE'), `${id}:/root/swapped/deep/`])
    }
    await system.ok('rm', id)
  }, 120_000)
})

describe('an agent that was stopped', () => {
  test.each(['SIGSTOP', 'ptrace'])(
    'by %s is missed: the sandbox ends and says why',
    async (how) => {
      const { id, exec } = stopped[how]!
      expect(await exec).toMatchObject({ code: 125, stderr: expect.stringContaining('AGENT_SILENT') })
      expect((await endOf(id))?.data).toMatchObject({ code: 'AGENT_SILENT', exitCode: 125 })
    },
    150_000,
  )
})

test('no service has grown without bound', () => {
  const grown = [...peaks].map(
    ([name, peak]) => [name, Math.round((peak - sizesBefore.get(name)!) / MIB)] as const,
  )
  console.info(`grown at most by, MiB: ${grown.map(([name, mib]) => `${name} ${mib}`).join(', ')}`)
  expect(grown.filter(([, mib]) => mib > GROWTH_MAX_MIB)).toEqual([])
})

test('nothing of those that have ended is left on the host, and the trail is whole', async () => {
  const alive = new Set((await system.ok('ps', '--quiet')).split('\n'))
  const giveUpAt = performance.now() + 60_000
  let left: string[]
  do {
    left = judgeHost(await takeInventory(system.system), alive).map(describeFinding)
  } while (left.length > 0 && performance.now() < giveUpAt)
  expect(left).toEqual([])
  expect(await system.run(['verify'])).toMatchObject({ code: 0 })
}, 90_000)
