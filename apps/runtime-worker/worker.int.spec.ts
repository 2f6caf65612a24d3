import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { eventually } from '../../libs/messaging/testing.js'
import { agentsOf, newExecId, newSandboxId, startWorld, type WorkerWorld } from './testing.js'

let world: WorkerWorld
beforeAll(async () => {
  world = await startWorld()
  await world.start()
}, 60_000)
afterAll(() => world?.close())

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')

test('a sandbox is created, runs an exec and is stopped, and its facts come in order', async () => {
  const { control } = world
  const sandboxId = await world.create()
  const execId = await world.exec(sandboxId, ['sh', '-c', 'echo out; echo err >&2; exit 3'])
  const { ending } = await control.until(sandboxId, 'exec-ended', execId)
  expect(ending).toEqual({
    kind: 'exited',
    exitCode: 3,
    signal: null,
    reason: 'exit',
    stdout: { bytes: 4, droppedBytes: 0, sha256: sha256('out\n') },
    stderr: { bytes: 4, droppedBytes: 0, sha256: sha256('err\n') },
  })
  await world.stop(sandboxId)
  await control.until(sandboxId, 'sandbox-cleaned-up')
  expect(control.of(sandboxId).list.map(({ kind }) => kind)).toEqual([
    'sandbox-started',
    'exec-started',
    'exec-ended',
    'sandbox-ended',
    'sandbox-cleaned-up',
  ])
  expect(control.of(sandboxId).of('sandbox-ended')[0]).toMatchObject({
    ending: { kind: 'stopped' },
    staged: [],
  })
  expect(control.faults).toEqual([])
})

test('orders that come twice have one effect', async () => {
  const { control } = world
  const sandboxId = newSandboxId()
  const create = world.createOrder(sandboxId)
  const exec = world.execOrder(sandboxId, newExecId(), ['sh', '-c', 'echo x >> f; wc -l < f'])
  await Promise.all([world.order(create), world.order(create)])
  await Promise.all([world.order(exec), world.order(exec), world.order(exec)])
  await control.until(sandboxId, 'exec-ended')
  await world.order(exec)
  await world.order(create)
  await world.stop(sandboxId)
  await world.stop(sandboxId)
  await control.until(sandboxId, 'sandbox-cleaned-up')
  await world.order(create)
  expect(control.of(sandboxId).of('exec-ended')).toHaveLength(1)
  expect(control.of(sandboxId).of('exec-ended')[0]).toMatchObject({
    ending: { stdout: { sha256: sha256('1\n') } },
  })
  expect(control.of(sandboxId).of('sandbox-started')).toHaveLength(1)
  expect(agentsOf(world.dirOf(sandboxId))).toEqual([])
})

test('a main process ends its sandbox with its own code', async () => {
  const sandboxId = await world.create(
    { command: ['sh', '-c', 'exit 7'] },
    { env: { PATH: '/usr/bin:/bin' } },
  )
  const { ending } = await world.control.until(sandboxId, 'sandbox-ended')
  expect(ending).toEqual({ kind: 'exited', code: 7, signal: null })
})

test('a main process that does not exist ends its sandbox with 127', async () => {
  const sandboxId = await world.create({ command: ['/no/such/program'] })
  const { ending } = await world.control.until(sandboxId, 'sandbox-ended')
  expect(ending).toEqual({ kind: 'exited', code: 127, signal: null })
})

test('programs that cannot be run end as failed, with 126 and 127', async () => {
  const sandboxId = await world.create()
  const missing = await world.exec(sandboxId, ['/no/such/program'])
  const directory = await world.exec(sandboxId, ['/usr'])
  const endings = await Promise.all(
    [missing, directory].map((id) => world.control.until(sandboxId, 'exec-ended', id)),
  )
  expect(endings.map(({ ending }) => ending)).toMatchObject([
    { kind: 'failed', exitCode: 127 },
    { kind: 'failed', exitCode: 126 },
  ])
  await world.stop(sandboxId)
})

test('a lifetime ends a sandbox, and its execs before it', async () => {
  const sandboxId = await world.create({ timeoutMs: 1_000 })
  const execId = await world.exec(sandboxId, ['sleep', '60'])
  const { ending } = await world.control.until(sandboxId, 'sandbox-ended')
  expect(ending).toEqual({ kind: 'timed-out', reason: 'lifetime' })
  expect(world.control.of(sandboxId).of('exec-ended', execId)[0]).toMatchObject({
    ending: { kind: 'exited', exitCode: 137, signal: 9, reason: 'sandbox-ended' },
  })
  const kinds = world.control.of(sandboxId).list.map(({ kind }) => kind)
  expect(kinds.indexOf('exec-ended')).toBeLessThan(kinds.indexOf('sandbox-ended'))
})

test('an exec keeps a sandbox from being idle, its end does not', async () => {
  const sandboxId = await world.create({ idleTimeoutMs: 600 })
  await world.exec(sandboxId, ['sleep', '1.2'])
  const { ending } = await world.control.until(sandboxId, 'sandbox-ended')
  expect(ending).toEqual({ kind: 'timed-out', reason: 'idle' })
  expect(world.control.of(sandboxId).of('exec-ended')[0]).toMatchObject({ ending: { exitCode: 0 } })
})

test('an exec whose time is over ends with 124', async () => {
  const sandboxId = await world.create()
  const execId = await world.exec(sandboxId, ['sleep', '60'], { timeoutMs: 300 })
  const { ending } = await world.control.until(sandboxId, 'exec-ended', execId)
  expect(ending).toMatchObject({ exitCode: 124, signal: 9, reason: 'timeout' })
  await world.stop(sandboxId)
})

test('a signal goes to the whole group, once per id', async () => {
  const { control } = world
  const sandboxId = await world.create()
  const script = `n=0; trap 'n=$((n+1))' TERM; echo ready; while [ $n -lt 2 ]; do sleep 0.05; done`
  const execId = await world.exec(sandboxId, ['sh', '-c', script])
  await control.until(sandboxId, 'exec-started', execId)
  await eventually(
    () => readFileSync(join(world.stateDir, 'spool', sandboxId, execId, 'stdout.0'), 'utf8') !== '',
  )
  const signal = { kind: 'signal', tenant: 'acme', sandboxId, epoch: 1, execId, signal: 15 } as const
  await world.order({ ...signal, signalId: 's1' })
  await world.order({ ...signal, signalId: 's1' })
  await new Promise((resolve) => setTimeout(resolve, 300))
  expect(control.of(sandboxId).of('exec-ended', execId)).toEqual([])
  await world.order({ ...signal, signalId: 's2' })
  await control.until(sandboxId, 'exec-ended', execId)
  await world.stop(sandboxId)
})

test('a signal that waits for the start of a program that ends at once loses nothing', async () => {
  const sandboxId = newSandboxId()
  const order = world.execOrder(sandboxId, newExecId(), ['true'])
  const { execId } = order as Extract<typeof order, { kind: 'exec' }>
  await world.order(world.createOrder(sandboxId))
  await world.order(order)
  const signal = {
    kind: 'signal',
    tenant: 'acme',
    sandboxId,
    epoch: 1,
    execId,
    signal: 18,
    signalId: 's',
  } as const
  await Promise.all([1, 2, 3].map((i) => world.order({ ...signal, signalId: `s${i}` })))
  const { ending } = await world.control.until(sandboxId, 'exec-ended', execId)
  expect(ending).toMatchObject({ kind: 'exited', exitCode: 0 })
  await world.stop(sandboxId)
})

test('an exec that waits for a sandbox that is stopped never runs', async () => {
  const sandboxId = newSandboxId()
  await world.order(world.createOrder(sandboxId))
  const [execId] = await Promise.all([world.exec(sandboxId, ['sleep', '60']), world.stop(sandboxId)])
  const { ending } = await world.control.until(sandboxId, 'exec-ended', execId)
  // It may have been quicker than the stop.
  expect(['SANDBOX_GONE', 'sandbox-ended']).toContain(
    'code' in ending ? ending.code : (ending as { reason: string }).reason,
  )
  await world.control.until(sandboxId, 'sandbox-cleaned-up')
})

test('a stop for a sandbox that never was here leaves a tombstone: a late create starts nothing', async () => {
  const sandboxId = newSandboxId()
  await world.stop(sandboxId)
  await world.control.until(sandboxId, 'sandbox-cleaned-up')
  await world.order(world.createOrder(sandboxId))
  const kinds = world.control.of(sandboxId).list.map(({ kind }) => kind)
  expect(kinds).toEqual(['sandbox-ended', 'sandbox-cleaned-up'])
  await eventually(
    () => !world.control.heartbeat?.sandboxes.some((sandbox) => sandbox.sandboxId === sandboxId),
  )
})

test('a stop overtakes its create', async () => {
  const sandboxId = newSandboxId()
  await Promise.all([world.order(world.createOrder(sandboxId)), world.stop(sandboxId)])
  const { ending } = await world.control.until(sandboxId, 'sandbox-ended')
  expect(ending).toEqual({ kind: 'stopped' })
  await world.control.until(sandboxId, 'sandbox-cleaned-up')
  expect(agentsOf(world.dirOf(sandboxId))).toEqual([])
})

test('an exec that is cancelled before it came never starts', async () => {
  const sandboxId = await world.create()
  const execId = newExecId()
  const cancel = { kind: 'cancel-exec', tenant: 'acme', sandboxId, epoch: 1, execId } as const
  expect(await world.order(cancel)).toMatchObject({ known: false })
  await world.order(world.execOrder(sandboxId, execId, ['touch', 'started']))
  expect(await world.order(cancel)).toMatchObject({ known: false })
  const other = await world.exec(sandboxId, ['sh', '-c', 'ls started 2>/dev/null; true'])
  const { ending } = await world.control.until(sandboxId, 'exec-ended', other)
  expect(ending).toMatchObject({ stdout: { bytes: 0 } })
  expect(await world.order({ ...cancel, execId: other })).toMatchObject({ known: true })
  await world.stop(sandboxId)
})

test('a small stdin and the values of env reach the exec and no file of the worker', async () => {
  const sandboxId = await world.create()
  const stdin = Buffer.from('canary-in-stdin').toString('base64')
  const script = 'cat; printf "%s" "$SECRET"; sleep 0.3'
  const secrets = { env: { PATH: '/usr/bin:/bin', SECRET: 'canary-in-env' }, stdin }
  const execId = await world.exec(
    sandboxId,
    ['sh', '-c', script],
    { stdin: 'inline', envNames: ['SECRET'] },
    secrets,
  )
  await world.control.until(sandboxId, 'exec-started', execId)
  const files = readdirSync(world.stateDir, { recursive: true, withFileTypes: true })
  for (const file of files) {
    const path = join(file.parentPath, file.name)
    if (!file.isFile() || path.includes('/spool/')) continue
    expect({ path, has: readFileSync(path, 'latin1').includes('canary') }).toEqual({ path, has: false })
  }
  const { ending } = await world.control.until(sandboxId, 'exec-ended', execId)
  expect(ending).toMatchObject({ stdout: { sha256: sha256('canary-in-stdincanary-in-env') } })
  await world.stop(sandboxId)
})

test('a fenced epoch is ended here and its facts are dropped', async () => {
  const sandboxId = await world.create()
  await world.control.until(sandboxId, 'sandbox-started')
  world.control.mode = 'fence'
  const execId = await world.exec(sandboxId, ['true'])
  try {
    await eventually(() => !existsSync(world.dirOf(sandboxId)), 15_000)
  } finally {
    world.control.mode = 'take'
  }
  expect(world.control.of(sandboxId).of('exec-ended', execId)).toEqual([])
})

test('missing orders come with a heartbeat', async () => {
  const sandboxId = newSandboxId()
  world.control.orders.push(world.createOrder(sandboxId))
  await world.control.until(sandboxId, 'sandbox-started')
  await world.stop(sandboxId)
  await world.control.until(sandboxId, 'sandbox-cleaned-up')
})

test('an order that is none is refused with a code', async () => {
  await expect(world.order({ kind: 'format' } as never)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  const exec = world.execOrder(newSandboxId(), newExecId(), ['true'])
  await expect(world.order(exec)).rejects.toMatchObject({ code: 'SANDBOX_NOT_FOUND', retryable: true })
})
