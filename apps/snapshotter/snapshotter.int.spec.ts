import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import type { Task, TaskResult } from '#libs/contract'
import { PLATFORM_TENANT, SandtrailError } from '#libs/domain'
import { noteUpload } from '#libs/event-store'
import { createLog, type Running } from '#libs/service'
import { FileBlobStore, verifyBlobUrl } from '#libs/storage'
import { TENANT, TestGround } from '../../libs/pool-tasks/testing.js'
import { startSnapshotter } from './start.js'

const KEY = randomBytes(32)
let ground: TestGround
let blobs: FileBlobStore
let blobDir: string
let server: Server
let service: Running

beforeAll(async () => {
  ground = await TestGround.make()
  blobDir = await mkdtemp(join(tmpdir(), 'sandtrail-blobs-'))
  blobs = await FileBlobStore.open(blobDir)
  server = createServer(serveBlob).listen(0, '127.0.0.1')
  await once(server, 'listening')
  service = await start()
})

afterAll(async () => {
  await service?.stop()
  server?.close()
  await ground?.remove()
  if (blobDir) await rm(blobDir, { recursive: true })
})

test('an import is accepted at once, and ready when every live pool has it', async () => {
  const workers = [await ground.worker(), await ground.worker()]
  for (const worker of workers) worker.answer = doTask
  const { sha256, bytes } = await upload('one')
  const { imageId } = await ground.ask('image', 'import', { name: 'app:1', sha256 })
  const ready = await ground.event(String(imageId), 'ImageReady')
  expect(ready.digest).toBe(`sha256:${sha256}`)
  const types = await ground.types(String(imageId))
  expect(types).toEqual(['ImageImportRequested', 'ImageReplicated', 'ImageReplicated', 'ImageReady'])
  const [task] = workers[0]!.tasks as Extract<Task, { kind: 'import-image' }>[]
  expect(task).toMatchObject({ kind: 'import-image', imageId, sha256, bytes })
  expect((await fetch(task!.url)).status).toBe(200)
  expect((await fetch(task!.url.replace('expires=1', 'expires=2'))).status).toBe(403)
  for (const worker of workers) await ground.lose(worker)
})

test('a name that is imported again means the newer image, and the older stays under its id', async () => {
  const worker = await ground.worker()
  worker.answer = doTask
  const first = String(
    (await ground.ask('image', 'import', { name: 'again', sha256: (await upload('a')).sha256 })).imageId,
  )
  await ground.event(first, 'ImageReady')
  const second = String(
    (await ground.ask('image', 'import', { name: 'again', sha256: (await upload('b')).sha256 })).imageId,
  )
  await ground.event(second, 'ImageReady')
  // The read model follows the log, and may not know either image yet.
  const named = () => ground.ask('image', 'get', { image: 'again' }).catch(() => ({ imageId: null }))
  await eventually(async () => (await named()).imageId === second)
  expect(await ground.ask('image', 'get', { image: first })).toMatchObject({ state: 'ready', name: 'again' })
  const { images } = (await ground.ask('image', 'list', {})) as { images: { imageId: string }[] }
  expect(images.map(({ imageId }) => imageId)).toEqual(expect.arrayContaining([first, second]))

  await ground.ask('image', 'remove', { image: 'again' })
  await expect(ground.ask('image', 'get', { image: 'again' })).rejects.toMatchObject({
    code: 'IMAGE_NOT_FOUND',
  })
  await eventually(() => worker.tasks.some((task) => task.kind === 'remove-image' && task.imageId === second))
  await ground.lose(worker)
})

test('the same import sent ten times at once is one image', async () => {
  const worker = await ground.worker()
  worker.answer = doTask
  const { sha256 } = await upload('ten')
  const id = randomUUID()
  const answers = await Promise.all(
    Array.from({ length: 10 }, () => ground.ask('image', 'import', { name: 'ten', sha256 }, id)),
  )
  expect(new Set(answers.map(({ imageId }) => imageId)).size).toBe(1)
  await expect(ground.ask('image', 'import', { name: 'other', sha256 }, id)).rejects.toMatchObject({
    code: 'COMMAND_ID_REUSED',
  })
  await ground.event(String(answers[0]!.imageId), 'ImageReady')
  await ground.lose(worker)
})

test('a digest that is not in the blob store is refused', async () => {
  const asked = ground.ask('image', 'import', { name: 'none', sha256: '0'.repeat(64) })
  await expect(asked).rejects.toMatchObject({ code: 'NOT_FOUND' })
})

test('a digest that another tenant has uploaded is refused as one that nobody has', async () => {
  const { sha256 } = await upload('private to umbrella', 'umbrella')
  const asked = (digest: string) =>
    ground
      .ask('image', 'import', { name: 'theirs', sha256: digest })
      .catch(({ code, message }) => ({ code, message }))
  expect(await asked(sha256)).toEqual(await asked('0'.repeat(64)))
  expect(await asked(sha256)).toMatchObject({ code: 'NOT_FOUND' })
})

test("the platform's image is seen by every tenant and removed by none", async () => {
  const worker = await ground.worker()
  worker.answer = doTask
  const { sha256 } = await upload('for all', PLATFORM_TENANT)
  const ask = (tenant: string, verb: string, body: object) =>
    ground.ask('image', verb, body, randomUUID(), tenant)
  const imported = await ask(PLATFORM_TENANT, 'import', { name: 'shared:1', sha256 })
  const imageId = String(imported.imageId)
  await ground.event(imageId, 'ImageReady')
  // The list and what it tells of one follow the ledger a moment behind.
  const becomes = (tenant: string, image: string, expected: { imageId: unknown; shared: boolean }) =>
    eventually(async () => {
      const found = await ask(tenant, 'get', { image }).catch(() => null)
      return (
        found?.imageId === expected.imageId && found?.shared === expected.shared && found?.state === 'ready'
      )
    })
  await becomes('umbrella', 'shared:1', { imageId, shared: true })
  const { images } = (await ask('umbrella', 'list', {})) as { images: object[] }
  expect(images).toContainEqual(expect.objectContaining({ imageId, shared: true, name: 'shared:1' }))
  for (const image of ['shared:1', imageId]) {
    await expect(ask('umbrella', 'remove', { image })).rejects.toMatchObject({ code: 'IMAGE_NOT_FOUND' })
  }

  // A name of the tenant's own hides it, from this tenant alone.
  const own = await upload('own', 'umbrella')
  const mine = await ask('umbrella', 'import', { name: 'shared:1', sha256: own.sha256 })
  await ground.event(String(mine.imageId), 'ImageReady')
  await becomes('umbrella', 'shared:1', { imageId: mine.imageId, shared: false })
  await becomes('acme', 'shared:1', { imageId, shared: true })
  await expect(ask('acme', 'get', { image: String(mine.imageId) })).rejects.toMatchObject({
    code: 'IMAGE_NOT_FOUND',
  })
  expect(await ask(PLATFORM_TENANT, 'remove', { image: 'shared:1' })).toMatchObject({ imageId })
  await ground.lose(worker)
})

test('an archive that a worker cannot unpack fails the import, and what is half-made is removed', async () => {
  const worker = await ground.worker()
  worker.answer = (task) => {
    if (task.kind === 'remove-image') return doTask(task)
    throw new SandtrailError('INVALID_ARGUMENT', 'the archive cannot be unpacked')
  }
  const { imageId } = await ground.ask('image', 'import', {
    name: 'bad',
    sha256: (await upload('bad')).sha256,
  })
  expect(await ground.event(String(imageId), 'ImageFailed')).toMatchObject({ code: 'INVALID_ARGUMENT' })
  await eventually(() => worker.tasks.some(({ kind }) => kind === 'remove-image'))
  await ground.lose(worker)
})

test('a worker that joins later is filled too', async () => {
  const early = await ground.worker()
  early.answer = doTask
  const { imageId } = await ground.ask('image', 'import', {
    name: 'late',
    sha256: (await upload('late')).sha256,
  })
  await ground.event(String(imageId), 'ImageReady')
  const late = await ground.worker()
  late.answer = doTask
  await eventually(async () => {
    const replicas = (await ground.types(String(imageId))).filter((type) => type === 'ImageReplicated')
    return replicas.length === 2
  })
  expect(late.tasks.some((task) => task.kind === 'import-image' && task.imageId === imageId)).toBe(true)
  await ground.lose(early)
  await ground.lose(late)
})

test('a pool that has no room for a ready image is not asked at each look', async () => {
  const first = await ground.worker()
  first.answer = doTask
  const names = ['full', 'slow']
  const [unwanted, slow] = await Promise.all(
    names.map(async (name) => {
      const { sha256 } = await upload(name)
      const imageId = String((await ground.ask('image', 'import', { name, sha256 })).imageId)
      await ground.event(imageId, 'ImageReady')
      return imageId
    }),
  )
  const late = await ground.worker()
  const asked = (imageId: string | undefined) =>
    late.tasks.filter((task) => task.kind === 'import-image' && task.imageId === imageId).length
  late.answer = (task) => {
    if (task.kind !== 'import-image') return doTask(task)
    if (task.imageId === unwanted) throw new SandtrailError('NO_SPACE', 'the pool is full')
    if (task.imageId === slow) throw new SandtrailError('UNAVAILABLE', 'not yet')
    return doTask(task)
  }
  // What passes is asked for some times within a try, so this is the third: two more looks have begun both.
  await eventually(() => asked(slow) > 12)
  expect(asked(unwanted)).toBe(1)
  for (const worker of [first, late]) await ground.lose(worker)
})

test('an import that a stop of the snapshotter interrupted is taken up by the next', async () => {
  const worker = await ground.worker()
  const { imageId } = await ground.ask('image', 'import', {
    name: 'cut',
    sha256: (await upload('cut')).sha256,
  })
  await eventually(() => worker.tasks.length > 0)
  await service.stop()
  worker.answer = doTask
  service = await start()
  await ground.event(String(imageId), 'ImageReady')
  await ground.lose(worker)
})

test('a snapshot of a running sandbox is completed together with its image', async () => {
  const worker = await ground.worker()
  worker.answer = doTask
  const sandboxId = await ground.sandbox(worker)
  const { snapshotId, imageId } = await ground.ask('snapshot', 'create', { sandboxId })
  await ground.event(String(snapshotId), 'SnapshotCompleted')
  expect(await ground.types(String(imageId))).toEqual(['ImageCreatedFromSnapshot'])
  const seen = () => ground.ask('snapshot', 'get', { snapshotId }).catch(() => ({ state: 'not there yet' }))
  await eventually(async () => (await seen()).state === 'completed')
  expect(await ground.ask('snapshot', 'list', { sandboxId })).toMatchObject({
    snapshots: [{ snapshotId, imageId }],
  })
  expect(await ground.ask('image', 'remove', { image: snapshotId })).toMatchObject({ imageId })
  await ground.lose(worker)
})

test('only a running sandbox can be snapshotted', async () => {
  const worker = await ground.worker()
  const sandboxId = await ground.sandbox(worker)
  await ground.endSandbox(sandboxId)
  await expect(ground.ask('snapshot', 'create', { sandboxId })).rejects.toMatchObject({
    code: 'SANDBOX_NOT_RUNNING',
  })
  const unknown = { sandboxId: 'sb-00000000000000000000000000' }
  await expect(ground.ask('snapshot', 'create', unknown)).rejects.toMatchObject({ code: 'SANDBOX_NOT_FOUND' })
  await ground.lose(worker)
})

test('a snapshot that the worker cannot take is failed with its code, and nothing of it stays', async () => {
  const worker = await ground.worker()
  worker.answer = (task) => {
    if (task.kind === 'remove-image') return doTask(task)
    throw new SandtrailError('SNAPSHOT_FAILED', 'the guest did not write out what it holds')
  }
  const sandboxId = await ground.sandbox(worker)
  const { snapshotId, imageId } = await ground.ask('snapshot', 'create', { sandboxId })
  expect(await ground.event(String(snapshotId), 'SnapshotFailed')).toMatchObject({ code: 'SNAPSHOT_FAILED' })
  expect(await ground.types(String(imageId))).toEqual([])
  await eventually(() =>
    worker.tasks.some((task) => task.kind === 'remove-image' && task.imageId === imageId),
  )
  await ground.lose(worker)
})

test('a snapshot whose worker answers only after a restart of the snapshotter is completed once', async () => {
  const worker = await ground.worker()
  const sandboxId = await ground.sandbox(worker)
  const { snapshotId } = await ground.ask('snapshot', 'create', { sandboxId })
  await eventually(() => worker.tasks.length > 0)
  await service.stop()
  worker.answer = doTask
  service = await start()
  await ground.event(String(snapshotId), 'SnapshotCompleted')
  expect(await ground.types(String(snapshotId))).toEqual(['SnapshotRequested', 'SnapshotCompleted'])
  await ground.lose(worker)
})

/** As a worker whose pool does everything at once. */
function doTask(task: Task): TaskResult {
  switch (task.kind) {
    case 'snapshot':
      return { kind: 'snapshot', tookMs: 7 }
    case 'import-image':
    case 'remove-image':
      return { kind: task.kind }
    default:
      throw new SandtrailError('INVALID_ARGUMENT', `not a task of the snapshotter: ${task.kind}`)
  }
}

function start(): Promise<Running> {
  const { port } = server.address() as { port: number }
  const config = {
    SANDTRAIL_NATS_URL: ground.nats.url,
    SANDTRAIL_NATS_CREDENTIALS_FILE: { user: 'platform', password: 'platform-password-for-tests' },
    SANDTRAIL_LOG_LEVEL: 'error' as const,
    SANDTRAIL_METRICS_HOST: '127.0.0.1',
    SANDTRAIL_METRICS_PORT: 0,
    SANDTRAIL_DATABASE_URL: ground.db.url,
    SANDTRAIL_PUBLIC_URL: `http://127.0.0.1:${port}`,
    SANDTRAIL_BLOB_KEY_FILE: KEY,
  }
  return startSnapshotter(config, createLog('snapshotter', 'error'))
}

async function upload(content: string, tenant = TENANT): Promise<{ sha256: string; bytes: number }> {
  const bytes = Buffer.from(content)
  const blob = await blobs.put(
    (async function* () {
      yield bytes
    })(),
    { bytesMax: 1_000 },
  )
  expect(blob.sha256).toBe(createHash('sha256').update(bytes).digest('hex'))
  // As the gateway does.
  await noteUpload(ground.db.pool, tenant, blob.sha256)
  return blob
}

/** The gateway's route, by the same functions. */
const serveBlob: Parameters<typeof createServer>[1] = async (request, response) => {
  const url = new URL(request.url ?? '', 'http://blobs')
  const sha256 = url.pathname.split('/').at(-1) ?? ''
  if (!verifyBlobUrl(sha256, Object.fromEntries(url.searchParams), KEY)) return response.writeHead(403).end()
  if (!(await blobs.has(sha256))) return response.writeHead(404).end()
  const { bytes, stream } = await blobs.open(sha256)
  response.writeHead(200, { 'content-length': bytes })
  if (request.method === 'HEAD') {
    stream.destroy()
    return response.end()
  }
  return stream.pipe(response)
}

async function eventually(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 1_000; tries++) {
    if (await condition()) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error(`did not come true: ${condition}`)
}
