import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import type { Task, TaskResult } from '#libs/contract'
import { Rejected, type SandboxId, SandtrailError, type VolumeId, type VolumeMount } from '#libs/domain'
import { createLog, type Running } from '#libs/service'
import { TestGround, type TestWorker } from '../../libs/pool-tasks/testing.js'
import { startVolumeSyncer } from './start.js'

let ground: TestGround
let service: Running
let worker: TestWorker
let log: VolumeLog

beforeAll(async () => {
  ground = await TestGround.make()
  worker = await ground.worker()
  log = new VolumeLog()
  worker.answer = (task) => log.answer(task)
  service = await start()
})

afterAll(async () => {
  await service?.stop()
  await ground?.remove()
})

test('a volume has a home and a name that nobody else can take', async () => {
  const volumeId = await makeVolume('named')
  expect(await ground.ask('volume', 'get', { volume: 'named' })).toMatchObject({
    volumeId,
    workerId: worker.workerId,
    version: 0,
    state: 'ready',
  })
  await expect(ground.ask('volume', 'create', { name: 'named' })).rejects.toMatchObject({
    code: 'NAME_TAKEN',
  })
  const { volumes } = (await ground.ask('volume', 'list', {})) as {
    volumes: { volumeId: string; createdAt: string }[]
  }
  expect(volumes.find((volume) => volume.volumeId === volumeId)?.createdAt).toMatch(/^\d{4}-/)
})

test('a commit of a running sandbox becomes a version', async () => {
  const volumeId = await makeVolume('committed')
  const sandboxId = await ground.sandbox(worker, [mountOf(volumeId)])
  const id = randomUUID()
  const first = await ground.ask('volume', 'commit', { sandboxId, volume: 'committed' }, id)
  const again = await ground.ask('volume', 'commit', { sandboxId, volume: 'committed' }, id)
  expect(again).toEqual(first)
  const committed = await ground.event(volumeId, 'VolumeCommitted')
  expect(committed).toMatchObject({ version: 1, commitId: first.commitId, trigger: 'commit' })
  expect(await ground.types(volumeId)).toEqual(['VolumeCreated', 'VolumeCommitRequested', 'VolumeCommitted'])
  expect(await ground.ask('volume', 'versions', { volume: volumeId })).toMatchObject({
    versions: [{ version: 1, sandboxId }],
    more: false,
  })
})

test('only a writable mount of a running sandbox can be committed', async () => {
  const volumeId = await makeVolume('refused')
  const reader = await ground.sandbox(worker, [{ ...mountOf(volumeId), readOnly: true }])
  await expect(ground.ask('volume', 'commit', { sandboxId: reader, volume: volumeId })).rejects.toMatchObject(
    {
      code: 'INVALID_ARGUMENT',
    },
  )
  const stranger = await ground.sandbox(worker)
  await expect(
    ground.ask('volume', 'commit', { sandboxId: stranger, volume: volumeId }),
  ).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
  })
  await ground.endSandbox(stranger)
  await expect(
    ground.ask('volume', 'commit', { sandboxId: stranger, volume: volumeId }),
  ).rejects.toMatchObject({
    code: 'SANDBOX_NOT_RUNNING',
  })
})

test('a commit that the worker refuses is failed with its code', async () => {
  const volumeId = await makeVolume('failing')
  const sandboxId = await ground.sandbox(worker, [mountOf(volumeId)])
  log.refuse = new SandtrailError('DEADLINE_EXCEEDED', 'the guest did not sync', { retryable: false })
  const { commitId } = await ground.ask('volume', 'commit', { sandboxId, volume: volumeId })
  expect(await ground.event(volumeId, 'VolumeCommitFailed')).toMatchObject({
    commitId,
    code: 'DEADLINE_EXCEEDED',
  })
})

test('what an ended sandbox left staged becomes a version, also when the syncer was down', async () => {
  const volumeId = await makeVolume('staged')
  const sandboxId = await ground.sandbox(worker, [mountOf(volumeId)])
  await service.stop()
  await ground.endSandbox(sandboxId, [{ volumeId, commitId: `${sandboxId}.1.${volumeId}` }])
  service = await start()
  const committed = await ground.event(volumeId, 'VolumeCommitted')
  expect(committed).toMatchObject({
    commitId: `${sandboxId}.1.${volumeId}`,
    trigger: 'sandbox-end',
    version: 1,
  })
})

test('what an ended sandbox left staged and no worker can merge is failed, and asked for no more', async () => {
  const volumeId = await makeVolume('parked')
  const sandboxId = await ground.sandbox(worker, [mountOf(volumeId)])
  const commitId = `${sandboxId}.1.${volumeId}`
  log.refuse = new Rejected('INVALID_ARGUMENT', 'a path is longer than the system takes')
  await ground.endSandbox(sandboxId, [{ volumeId, commitId }])
  expect(await ground.event(volumeId, 'VolumeCommitFailed')).toMatchObject({
    commitId,
    code: 'INVALID_ARGUMENT',
  })
  const left = () => ground.db.pool.query('select from timers where key like $1', [`${volumeId}:%`])
  await eventually(async () => (await left()).rows.length === 0)
  expect(await ground.types(volumeId)).toEqual(['VolumeCreated', 'VolumeCommitFailed'])
})

test('a reload tells from which version to which, once', async () => {
  const volumeId = await makeVolume('reloaded')
  const sandboxId = await ground.sandbox(worker, [mountOf(volumeId)])
  const id = randomUUID()
  await ground.ask('volume', 'reload', { sandboxId, volume: volumeId }, id)
  await ground.ask('volume', 'reload', { sandboxId, volume: volumeId }, id)
  expect(await ground.types(volumeId)).toEqual(['VolumeCreated', 'VolumeReloaded'])
  expect(await ground.event(volumeId, 'VolumeReloaded')).toMatchObject({
    sandboxId,
    fromVersion: 0,
    toVersion: 0,
  })
})

test('a volume that a live sandbox mounts is not removed; then it is, and its pool is freed', async () => {
  const volumeId = await makeVolume('removed')
  const sandboxId = await ground.sandbox(worker, [mountOf(volumeId)])
  await expect(ground.ask('volume', 'remove', { volume: 'removed' })).rejects.toMatchObject({
    code: 'VOLUME_IN_USE',
  })
  await ground.endSandbox(sandboxId)
  await ground.ask('volume', 'remove', { volume: 'removed' })
  await eventually(() =>
    worker.tasks.some((task) => task.kind === 'remove-volume' && task.volumeId === volumeId),
  )
  await expect(ground.ask('volume', 'get', { volume: 'removed' })).rejects.toMatchObject({
    code: 'VOLUME_NOT_FOUND',
  })
  expect(await makeVolume('removed')).not.toBe(volumeId)
})

test('a volume is not removed when a sandbox that mounts it is created meanwhile', async () => {
  const volumeId = await makeVolume('raced')
  // As the append of a create holds it.
  const create = await ground.db.pool.connect()
  await create.query('begin')
  await create.query(`select from claims where key = 'raced' for share`)
  const removed = ground.ask('volume', 'remove', { volume: 'raced' })
  const refused = expect(removed).rejects.toMatchObject({ code: 'VOLUME_IN_USE' })
  await eventually(async () => (await ground.db.pool.query(WAITING)).rows.length > 0)
  await ground.sandbox(worker, [mountOf(volumeId)])
  await create.query('commit')
  create.release()
  await refused
  expect(await ground.types(volumeId)).toEqual(['VolumeCreated'])
})

/** Who waits for a row. */
const WAITING = `
  select from pg_stat_activity
  where datname = current_database() and wait_event_type = 'Lock'
`

/** A home worker's log, without the content. */
class VolumeLog {
  /** Thrown once, at the next commit. */
  refuse: Error | null = null
  private readonly versions = new Map<string, Extract<TaskResult, { kind: 'commit-volume' }>['versions']>()

  answer(task: Task): TaskResult {
    if (task.kind === 'commit-volume') return this.commit(task)
    if (task.kind === 'reload-volume') return { kind: 'reload-volume', fromVersion: 0, toVersion: 0 }
    if (task.kind === 'remove-volume') return { kind: 'remove-volume' }
    throw new SandtrailError('INVALID_ARGUMENT', `not a task of the syncer: ${task.kind}`)
  }

  private commit(task: Extract<Task, { kind: 'commit-volume' }>): TaskResult {
    const refused = this.refuse
    this.refuse = null
    if (refused) throw refused
    const versions = this.versions.get(task.volumeId) ?? []
    this.versions.set(task.volumeId, versions)
    if (!versions.some(({ commitId }) => commitId === task.commitId)) {
      versions.push({
        version: versions.length + 1,
        commitId: task.commitId,
        sandboxId: task.sandboxId ?? (task.commitId.split('.')[0] as SandboxId),
        base: versions.length,
        changedPaths: 1,
        overwritten: [],
        overwrittenTotal: 0,
        trigger: task.sandboxId === null ? 'sandbox-end' : 'commit',
      })
    }
    return { kind: 'commit-volume', versions: versions.filter(({ version }) => version > task.afterVersion) }
  }
}

async function makeVolume(name: string): Promise<VolumeId> {
  return (await ground.ask('volume', 'create', { name })).volumeId as VolumeId
}

function mountOf(volumeId: VolumeId): VolumeMount {
  return { volumeId, name: 'v', path: '/data', readOnly: false, version: null }
}

function start(): Promise<Running> {
  const config = {
    SANDTRAIL_NATS_URL: ground.nats.url,
    SANDTRAIL_NATS_CREDENTIALS_FILE: { user: 'platform', password: 'platform-password-for-tests' },
    SANDTRAIL_LOG_LEVEL: 'error' as const,
    SANDTRAIL_METRICS_HOST: '127.0.0.1',
    SANDTRAIL_METRICS_PORT: 0,
    SANDTRAIL_DATABASE_URL: ground.db.url,
  }
  return startVolumeSyncer(config, createLog('volume-syncer', 'error'))
}

async function eventually(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 1_000; tries++) {
    if (await condition()) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error(`did not come true: ${condition}`)
}
