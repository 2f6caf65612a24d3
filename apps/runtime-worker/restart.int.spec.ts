/** The worker is killed, at a moment or at a named step, and started again: nothing is lost and nothing comes twice. */

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals'
import type { SandboxId } from '#libs/domain'
import { eventually } from '../../libs/messaging/testing.js'
import {
  agentsOf,
  newExecId,
  newSandboxId,
  startWorld,
  type WorkerProcess,
  type WorkerWorld,
} from './testing.js'

let world: WorkerWorld
let worker: WorkerProcess
beforeAll(async () => {
  world = await startWorld()
  worker = await world.start()
}, 60_000)
afterAll(() => world?.close())
afterEach(() => expect(world.control.faults).toEqual([]))

async function restart() {
  await worker.kill()
  worker = await world.start()
}

async function end(sandboxId: SandboxId) {
  await world.stop(sandboxId)
  await world.control.until(sandboxId, 'sandbox-cleaned-up')
  expect(agentsOf(world.dirOf(sandboxId))).toEqual([])
}

const spooled = (sandboxId: SandboxId, execId: string) =>
  readFileSync(join(world.stateDir, 'spool', sandboxId, execId, 'stdout.0'), 'utf8')

test('kill -9 under running execs: the same processes go on, their output has neither gap nor repetition', async () => {
  const sandboxId = await world.create()
  const script = 'i=0; while [ $i -lt 400 ]; do echo $i; i=$((i+1)); sleep 0.01; done'
  const execIds = await Promise.all([1, 2, 3].map(() => world.exec(sandboxId, ['sh', '-c', script])))
  const [agent] = agentsOf(world.dirOf(sandboxId))
  await eventually(() =>
    execIds.every((id) => existsSync(join(world.stateDir, 'spool', sandboxId, id, 'stdout.0'))),
  )
  await restart()
  await restart()
  expect(agentsOf(world.dirOf(sandboxId))).toEqual([agent])
  const expected = Array.from({ length: 400 }, (_, i) => `${i}\n`).join('')
  for (const execId of execIds) {
    const { ending } = await world.control.until(sandboxId, 'exec-ended', execId)
    expect(ending).toMatchObject({
      kind: 'exited',
      exitCode: 0,
      stdout: { bytes: expected.length, droppedBytes: 0 },
    })
    expect(spooled(sandboxId, execId)).toBe(expected)
  }
  expect(world.control.of(sandboxId).of('exec-started')).toHaveLength(3)
  await end(sandboxId)
}, 60_000)

test('an exec that ended while no worker was there keeps its exit code', async () => {
  const sandboxId = await world.create()
  const execId = await world.exec(sandboxId, ['sh', '-c', 'sleep 0.5; echo done; exit 9'])
  await world.control.until(sandboxId, 'exec-started', execId)
  await worker.kill()
  await new Promise((resolve) => setTimeout(resolve, 1_000))
  worker = await world.start()
  const { ending } = await world.control.until(sandboxId, 'exec-ended', execId)
  expect(ending).toMatchObject({ kind: 'exited', exitCode: 9, stdout: { bytes: 5 } })
  await end(sandboxId)
}, 60_000)

test('a main process that ended meanwhile ends its sandbox with its own code', async () => {
  const env = { PATH: '/usr/bin:/bin' }
  const sandboxId = await world.create({ command: ['sh', '-c', 'sleep 0.7; exit 5'] }, { env })
  await world.control.until(sandboxId, 'sandbox-started')
  await worker.kill()
  await new Promise((resolve) => setTimeout(resolve, 1_000))
  worker = await world.start()
  const { ending } = await world.control.until(sandboxId, 'sandbox-ended')
  expect(ending).toEqual({ kind: 'exited', code: 5, signal: null })
}, 60_000)

test('a sandbox that died meanwhile has an end that says so, and its exec is lost', async () => {
  const sandboxId = await world.create()
  const execId = await world.exec(sandboxId, ['sleep', '60'])
  await world.control.until(sandboxId, 'exec-started', execId)
  await worker.kill()
  for (const pid of agentsOf(world.dirOf(sandboxId))) process.kill(pid, 'SIGKILL')
  worker = await world.start()
  const { ending } = await world.control.until(sandboxId, 'sandbox-ended')
  expect(ending).toMatchObject({ kind: 'failed', code: 'SANDBOX_DIED' })
  expect(world.control.of(sandboxId).of('exec-ended', execId)[0]).toMatchObject({
    ending: { kind: 'lost', mayHaveRun: true },
  })
}, 60_000)

test('a lifetime that ran out meanwhile ends the sandbox at once', async () => {
  const sandboxId = await world.create({ timeoutMs: 1_500 })
  await world.control.until(sandboxId, 'sandbox-started')
  await worker.kill()
  await new Promise((resolve) => setTimeout(resolve, 1_500))
  worker = await world.start()
  const { ending } = await world.control.until(sandboxId, 'sandbox-ended')
  expect(ending).toEqual({ kind: 'timed-out', reason: 'lifetime' })
}, 60_000)

test('facts that the control plane did not hear are told after a restart', async () => {
  const sandboxId = await world.create()
  await world.control.until(sandboxId, 'sandbox-started')
  world.control.mode = 'away'
  const execId = await world.exec(sandboxId, ['sh', '-c', 'exit 4'])
  await eventually(() =>
    readFileSync(join(world.dirOf(sandboxId), 'journal.jsonl'), 'utf8').includes('exec-ended'),
  )
  await worker.kill()
  world.control.mode = 'take'
  worker = await world.start()
  const { ending } = await world.control.until(sandboxId, 'exec-ended', execId)
  expect(ending).toMatchObject({ exitCode: 4 })
  await end(sandboxId)
}, 60_000)

/** Where an exec may be cut off, and what may be told of it then. */
const EXEC_STEPS = {
  'exec-intended': ['lost'],
  'exec-before-send': ['lost'],
  'exec-sent': ['exited'],
  'exec-exit-recorded': ['exited'],
  'report-before-send': ['exited', 'lost'],
  'report-accepted': ['exited', 'lost'],
} as const

for (const [step, kinds] of Object.entries(EXEC_STEPS)) {
  test(`a kill -9 at "${step}" never runs an exec twice`, async () => {
    const sandboxId = await world.create()
    await world.control.until(sandboxId, 'sandbox-started')
    const file = join(world.dir, `lines-${step}`)
    writeFileSync(file, '')
    await worker.kill()
    worker = await world.start({ failpoint: step })
    const order = world.execOrder(sandboxId, newExecId(), ['sh', '-c', `echo x >> ${file}`])
    await world.order(order).catch(() => {}) // It may die before it answers.
    await worker.died()
    worker = await world.start()
    await world.order(order)
    const execId = 'execId' in order ? order.execId : undefined
    const { ending } = await world.control.until(sandboxId, 'exec-ended', execId)
    expect(kinds).toContain(ending.kind)
    const lines = readFileSync(file, 'utf8')
    expect(lines).toBe(ending.kind === 'exited' ? 'x\n' : '')
    expect(world.control.of(sandboxId).of('exec-ended')).toHaveLength(1)
    await end(sandboxId)
  }, 60_000)
}

for (const step of ['create-recorded', 'create-begun', 'create-done']) {
  test(`a kill -9 at "${step}" leaves no sandbox behind, and an end that says why`, async () => {
    await worker.kill()
    worker = await world.start({ failpoint: step })
    const sandboxId = newSandboxId()
    const order = world.createOrder(sandboxId)
    await world.order(order).catch(() => {}) // It may die before it answers.
    await worker.died()
    worker = await world.start()
    const { ending } = await world.control.until(sandboxId, 'sandbox-ended')
    expect(ending).toMatchObject({ kind: 'failed', step: 'worker-restart', code: 'WORKER_RESTARTED' })
    await world.control.until(sandboxId, 'sandbox-cleaned-up')
    expect(agentsOf(world.dirOf(sandboxId))).toEqual([])
  }, 60_000)
}

for (const step of [
  'ending-written',
  'ending-killed',
  'ending-staged',
  'ending-reported',
  'record-removed',
]) {
  test(`a kill -9 at "${step}" ends the sandbox with the cause that it had`, async () => {
    const sandboxId = await world.create()
    await world.control.until(sandboxId, 'sandbox-started')
    await worker.kill()
    worker = await world.start({ failpoint: step })
    await world.stop(sandboxId).catch(() => {}) // It may die before it answers.
    await worker.died()
    worker = await world.start()
    const { ending } = await world.control.until(sandboxId, 'sandbox-ended')
    expect(ending).toEqual({ kind: 'stopped' })
    await world.control.until(sandboxId, 'sandbox-cleaned-up')
    await eventually(() => !existsSync(world.dirOf(sandboxId)))
    expect(agentsOf(world.dirOf(sandboxId))).toEqual([])
  }, 60_000)
}

test('a stop of the worker ends no sandbox', async () => {
  const sandboxId = await world.create()
  const execId = await world.exec(sandboxId, ['sh', '-c', 'sleep 1.5; exit 6'])
  await world.control.until(sandboxId, 'exec-started', execId)
  expect(await worker.stop()).toBe(0)
  expect(agentsOf(world.dirOf(sandboxId))).toHaveLength(1)
  worker = await world.start()
  const { ending } = await world.control.until(sandboxId, 'exec-ended', execId)
  expect(ending).toMatchObject({ exitCode: 6 })
  await end(sandboxId)
}, 60_000)
