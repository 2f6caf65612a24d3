/** The task handler on a real pool. The sandboxes are entries of a map: what real ones do is tested end to end. */

import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import type { Task, TaskReply } from '#libs/contract'
import { type ImageId, makeId, type SandboxId, SandtrailError, type VolumeId } from '#libs/domain'
import { createLog } from '#libs/service'
import { KeyedLock, Pool } from '#libs/storage'
import { makeTestPool, type TestPool } from '../../../libs/storage/testing.js'
import { createTaskHandler } from './handler.js'
import type { LiveSandbox } from './live-sandbox.js'
import { TaskRuns } from './runs.js'

let disk: TestPool
let pool: Pool
let server: Server
let archive: Buffer
let downloads = 0
let run: (body: object) => Promise<TaskReply>
const sandboxes = new Map<SandboxId, LiveSandbox>()
const tenant = 'acme'

beforeAll(async () => {
  disk = await makeTestPool()
  pool = await Pool.open(disk.dir)
  mkdirSync(join(disk.scratch, 'image/tmp'), { recursive: true })
  archive = execFileSync('tar', ['-C', join(disk.scratch, 'image'), '-cf', '-', '.'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  server = createServer((request, response) => {
    downloads += 1
    if (request.url === '/missing') response.writeHead(404).end()
    else response.end(archive)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  run = createTaskHandler({
    pool,
    sandboxes,
    guestSlots: '/slots',
    tidy: async () => ({ execs: 0, bytes: 0, tombstones: 0 }),
    log: createLog('tasks', 'fatal' as never),
  })
})

afterAll(async () => {
  server?.close()
  await pool?.close()
  await disk?.remove()
})

test('an image is downloaded once, however often it is asked for', async () => {
  const imageId = makeId('im', 1, randomBytes(10))
  const task = importTask(imageId)
  const replies = await Promise.all([run(task), run(task), run(task)])
  for (const reply of replies)
    expect(reply).toMatchObject({ pending: false, result: { kind: 'import-image' } })
  await run(task)
  expect(downloads).toBe(1)
  await run({ kind: 'remove-image', tenant, imageId })
  expect(await pool.hasImage(imageId)).toBe(false)
})

test('a blob that is not there, or a task that is none, is refused with a code', async () => {
  const missing = { ...importTask(makeId('im', 1, randomBytes(10))), url: `${base()}/missing` }
  await expect(run(missing)).rejects.toMatchObject({ code: 'NOT_FOUND' })
  const bad = { ...missing, imageId: '../../etc' }
  await expect(run(bad)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await expect(run({ ...missing, url: 'file:///etc/passwd' })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
  })
  await expect(run({ kind: 'other' })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
})

test('a snapshot holds what the guest synced, and is taken once', async () => {
  const { sandboxId, root, agent } = await sandbox()
  agent.onSync = () => writeFileSync(join(root, 'tmp/synced'), 'yes')
  const imageId = makeId('im', 1, randomBytes(10))
  const task = { kind: 'snapshot' as const, tenant, sandboxId, epoch: 1, imageId }
  await run(task)
  expect(readFileSync(join(disk.dir, 'images', imageId, 'tmp/synced'), 'utf8')).toBe('yes')
  sandboxes.delete(sandboxId)
  expect(await run(task)).toMatchObject({ pending: false, result: { kind: 'snapshot' } })
  await expect(run({ ...task, imageId: makeId('im', 1, randomBytes(10)) })).rejects.toMatchObject({
    code: 'SANDBOX_NOT_RUNNING',
  })
})

test('a guest that does not sync gets no snapshot, and another epoch neither', async () => {
  const { sandboxId, agent } = await sandbox()
  agent.onSync = () => {
    throw new SandtrailError('DEADLINE_EXCEEDED', 'the guest is stuck')
  }
  const imageId = makeId('im', 1, randomBytes(10))
  const task = { kind: 'snapshot' as const, tenant, sandboxId, epoch: 1, imageId }
  await expect(run(task)).rejects.toMatchObject({ code: 'SNAPSHOT_FAILED', retryable: false })
  await expect(run({ ...task, epoch: 2 })).rejects.toMatchObject({ code: 'SANDBOX_NOT_RUNNING' })
  expect(await pool.hasImage(imageId)).toBe(false)
})

test('a commit of a live mount answers the log, and answers it again after the sandbox has gone', async () => {
  const volumeId = makeId('vo', 1, randomBytes(10))
  const { sandboxId, slotDir } = await sandbox(volumeId)
  writeFileSync(join(slotDir, 'a'), 'one')
  const task = commitTask(volumeId, sandboxId, 'commit-1')
  const done = {
    pending: false,
    result: { versions: [{ version: 1, commitId: 'commit-1', trigger: 'commit' }] },
  }
  expect(await run(task)).toMatchObject(done)
  sandboxes.delete(sandboxId)
  expect(await run(task)).toMatchObject(done)
  await expect(run({ ...task, commitId: 'commit-2' })).rejects.toMatchObject({ code: 'SANDBOX_NOT_RUNNING' })
})

test('what was staged is committed without its sandbox', async () => {
  const volumeId = makeId('vo', 1, randomBytes(10))
  const { sandboxId, slotDir } = await sandbox(volumeId)
  writeFileSync(join(slotDir, 'a'), 'one')
  await pool.stageVolume({ volumeId, sandboxId, slot: 'v0', commitId: 'at-end', trigger: 'sandbox-end' })
  await pool.removeSlots(sandboxId)
  const reply = await run({ ...commitTask(volumeId, null, 'at-end') })
  expect(reply).toMatchObject({ result: { versions: [{ commitId: 'at-end', trigger: 'sandbox-end' }] } })
})

test('a reload moves the mount to a new slot, remembers it, and is done once', async () => {
  const volumeId = makeId('vo', 1, randomBytes(10))
  const writer = await sandbox(volumeId)
  const reader = await sandbox(volumeId)
  writeFileSync(join(writer.slotDir, 'a'), 'one')
  await run(commitTask(volumeId, writer.sandboxId, 'for-reload'))
  const { sandboxId } = reader
  const task = { kind: 'reload-volume' as const, tenant, volumeId, sandboxId, epoch: 1, reloadId: 'reload-1' }
  expect(await run(task)).toMatchObject({ result: { fromVersion: 0, toVersion: 1 } })
  expect(await run(task)).toMatchObject({ result: { fromVersion: 0, toVersion: 1 } })
  const slot = reader.slots.get(volumeId)!
  expect(reader.agent.binds).toEqual([
    { source: `/slots/${slot}`, target: '/data', readOnly: false, replace: true },
  ])
  expect(readdirSync(join(disk.dir, 'slots', sandboxId))).toEqual([slot])
  expect(readFileSync(join(disk.dir, 'slots', sandboxId, slot, 'a'), 'utf8')).toBe('one')
})

test('a reload that cannot be bound leaves the old mount', async () => {
  const volumeId = makeId('vo', 1, randomBytes(10))
  const { sandboxId, agent, slots } = await sandbox(volumeId)
  agent.onBind = () => {
    agent.onBind = () => {}
    throw new SandtrailError('AGENT_UNREACHABLE', 'no answer')
  }
  const task = { kind: 'reload-volume' as const, tenant, volumeId, sandboxId, epoch: 1, reloadId: 'reload-2' }
  await expect(run(task)).rejects.toMatchObject({ code: 'AGENT_UNREACHABLE' })
  expect(slots.get(volumeId)).toBe('v0')
  expect(existsSync(join(disk.dir, 'slots', sandboxId, 'v0'))).toBe(true)
  expect(agent.binds.at(-1)).toMatchObject({ source: '/slots/v0' })
})

test('a long run is answered pending, and its result is handed out when it is there', async () => {
  const runs = new TaskRuns(10)
  let finish = (_: { kind: 'remove-image' }) => {}
  let begun = 0
  const work = () => {
    begun += 1
    return new Promise<{ kind: 'remove-image' }>((resolve) => {
      finish = resolve
    })
  }
  expect(await runs.join('a', work)).toEqual({ ok: true, pending: true })
  expect(await runs.join('a', work)).toEqual({ ok: true, pending: true })
  finish({ kind: 'remove-image' })
  expect(await runs.join('a', work)).toEqual({ ok: true, pending: false, result: { kind: 'remove-image' } })
  expect(begun).toBe(1)
})

function importTask(imageId: ImageId): Extract<Task, { kind: 'import-image' }> {
  const sha256 = createHash('sha256').update(archive).digest('hex')
  return { kind: 'import-image', tenant, imageId, url: `${base()}/blob`, sha256, bytes: archive.length }
}

function commitTask(volumeId: VolumeId, sandboxId: SandboxId | null, commitId: string) {
  return { kind: 'commit-volume' as const, tenant, volumeId, sandboxId, commitId, afterVersion: 0 }
}

function base(): string {
  return `http://127.0.0.1:${(server.address() as { port: number }).port}`
}

interface Bind {
  source: string
  target: string
  readOnly: boolean
  replace?: boolean
}

/** A root from an image of its own and, when asked for, a mounted volume. */
async function sandbox(volumeId?: VolumeId) {
  const [sandboxId, imageId] = [makeId('sb', 1, randomBytes(10)), makeId('im', 1, randomBytes(10))]
  await run(importTask(imageId))
  const root = await pool.createRoot(imageId, sandboxId, 50_000_000)
  const slots = new Map<VolumeId, string>()
  const agent = {
    binds: [] as Bind[],
    onSync: () => {},
    onBind: () => {},
    sync: async () => agent.onSync(),
    bind: async (bind: Bind) => {
      agent.onBind()
      agent.binds.push(bind)
    },
  }
  let slotDir = ''
  if (volumeId) {
    await pool.slotsDir(sandboxId)
    const mount = { volumeId, sandboxId, slot: 'v0', readOnly: false, version: null }
    slotDir = (await pool.mountVolume(mount)).path
    slots.set(volumeId, 'v0')
  }
  const lock = new KeyedLock()
  sandboxes.set(sandboxId, {
    epoch: 1,
    state: 'running',
    running: { agent },
    spec: { volumes: volumeId ? [{ volumeId, path: '/data', readOnly: false }] : [] },
    journal: {
      state: { slots },
      append: ({ volumeId: moved, slot }) => void slots.set(moved, slot),
      sync: async () => {},
    },
    lock: (work) => lock.run('one', work),
  })
  return { sandboxId, root, agent, slots, slotDir }
}
