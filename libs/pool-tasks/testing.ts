/**
 * For tests only: what snapshotter and volume-syncer stand on, real but for the workers: Postgres, a broker, a
 * sequencer, sandboxes in the log. A worker's end of the wire answers tasks as the test tells it; what a real worker
 * does with its pool is tested with real pools.
 */

import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { record, systemCommandOf } from '#libs/command-handling'
import type { Task, TaskResult } from '#libs/contract'
import {
  decideSandbox,
  evolveSandbox,
  makeId,
  type Sandbox,
  type SandboxCommand,
  type SandboxId,
  type SandboxSpec,
  sandboxAggregate,
  toErrorBody,
  type VolumeMount,
  type WorkerId,
} from '#libs/domain'
import {
  append,
  createSignerKey,
  type JsonObject,
  type LiveChange,
  load,
  loadSigner,
  loseWorker,
  readStream,
  Sequencer,
  upsertWorker,
} from '#libs/event-store'
import {
  commandHeaders,
  createWorkerIdentity,
  type Messaging,
  NUDGE_EVENTS,
  publishEvents,
  subjects,
  workerSubject,
} from '#libs/messaging'
import { createTestDatabase, type TestDatabase } from '../event-store/testing.js'
import { startNats, type TestNats } from '../messaging/testing.js'

export const TENANT = 'acme'
const GIB = 1024 ** 3
/** The broker knows so many workers' keys from its start. */
const WORKERS_MAX = 24

export class TestGround {
  private readonly workers: TestWorker[] = []

  private constructor(
    readonly db: TestDatabase,
    readonly nats: TestNats,
    readonly client: Messaging,
    private readonly dir: string,
    private readonly sequencer: Sequencer,
    private readonly identities: { workerId: WorkerId; seed: string }[],
  ) {}

  static async make(): Promise<TestGround> {
    const db = await createTestDatabase({ max: 30 })
    const identities = Array.from({ length: WORKERS_MAX }, () => ({
      workerId: makeId('wk', Date.now(), randomBytes(10)),
      ...createWorkerIdentity(),
    }))
    const known = identities.map(({ workerId, publicKey }) => ({ id: workerId, nkeyPublic: publicKey }))
    const nats = await startNats({ workers: known })
    const client = await nats.connect()
    const dir = await mkdtemp(join(tmpdir(), 'sandtrail-ground-'))
    createSignerKey(join(dir, 'trail.key'))
    const sequencer = new Sequencer({
      db: db.pool,
      trailFile: join(dir, 'trail.jsonl'),
      signer: loadSigner(join(dir, 'trail.key'), 'test'),
      publish: (events) => publishEvents(client, events),
    })
    client.subscribe(NUDGE_EVENTS, () => sequencer.nudge())
    sequencer.start()
    return new TestGround(db, nats, client, dir, sequencer, identities)
  }

  async remove(): Promise<void> {
    for (const worker of this.workers) await worker.away()
    await this.sequencer.stop()
    await this.client.close()
    await this.nats.close()
    await this.db.drop()
    await rm(this.dir, { recursive: true })
  }

  /** As the gateway, or a tenant's program, asks. */
  ask(
    aggregate: string,
    verb: string,
    body: object,
    id: string = randomUUID(),
    tenant: string = TENANT,
  ): Promise<JsonObject> {
    const headers = commandHeaders({ commandId: id, expiresAt: new Date(Date.now() + 60_000) })
    return this.client.request(subjects.request(tenant, aggregate, verb), body, {
      headers,
      timeoutMs: 20_000,
    })
  }

  async types(stream: string): Promise<string[]> {
    return (await readStream(this.db.pool, stream)).map(({ type }) => type)
  }

  /** The event of this type, once it is there; of several, the last. */
  async event(stream: string, type: string): Promise<JsonObject> {
    for (;;) {
      const found = (await readStream(this.db.pool, stream)).filter((event) => event.type === type).at(-1)
      if (found) return found.data
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  async worker(): Promise<TestWorker> {
    const identity = this.identities[this.workers.length]
    if (!identity) throw new Error(`a test may have ${WORKERS_MAX} workers`)
    const credentials = { nkeySeed: identity.seed }
    const messaging = await this.nats.connect({ credentials, connectWithinMs: 30_000 })
    const worker = new TestWorker(identity.workerId, messaging)
    this.workers.push(worker)
    await upsertWorker(this.db.pool, {
      workerId: worker.workerId,
      incarnation: 'one',
      capacity: { cpuMillis: 2_000, memoryBytes: 8 * GIB, diskBytes: 100 * GIB },
      poolFreeBytes: 50 * GIB,
      info: {},
    })
    return worker
  }

  async lose(worker: TestWorker): Promise<void> {
    await worker.away()
    await loseWorker(this.db.pool, worker.workerId, new Date())
  }

  /** A sandbox that runs, as the scheduler would have recorded it. */
  async sandbox(worker: TestWorker, volumes: VolumeMount[] = []): Promise<SandboxId> {
    const sandboxId = makeId('sb', Date.now(), randomBytes(10))
    const placement = { workerId: worker.workerId, epoch: 1 }
    await this.decide(
      sandboxId,
      { type: 'CreateSandbox', spec: specWith(volumes), placement },
      {
        action: 'open',
        sandboxId,
        ...placement,
      },
    )
    await this.decide(sandboxId, { type: 'ReportStarted', ...placement, volumes: [] })
    return sandboxId
  }

  async endSandbox(
    sandboxId: SandboxId,
    staged: { volumeId: VolumeMount['volumeId']; commitId: string }[] = [],
  ) {
    const { state } = await load(this.db.pool, sandboxAggregate, sandboxId)
    const { workerId, epoch } = state as Extract<Sandbox, { status: 'running' }>
    const ending = { kind: 'exited' as const, code: 0, signal: null }
    const command = { type: 'ReportEnded' as const, workerId, epoch, ending, staged }
    await this.decide(sandboxId, command, { action: 'close', sandboxId })
  }

  private async decide(sandboxId: SandboxId, command: SandboxCommand, live?: LiveChange): Promise<void> {
    const { state, version } = await load(
      this.db.pool,
      { ...sandboxAggregate, evolve: evolveSandbox },
      sandboxId,
    )
    const cause = systemCommandOf('system:test')(TENANT, 'test', randomUUID(), { sandboxId })
    const { ref, meta } = cause
    const writes = [
      { stream: sandboxId, expectedVersion: version, events: record(decideSandbox(state, command)) },
    ]
    const request = { tenant: TENANT, command: ref, outcome: {}, meta, at: new Date(), writes }
    const result = await append(this.db.pool, live ? { ...request, live } : request, () =>
      this.client.nudge(),
    )
    if (result.outcome !== 'appended') throw new Error(`could not record: ${result.outcome}`)
  }
}

export type Answer = (task: Task) => Promise<TaskResult | 'pending'> | TaskResult | 'pending'

export class TestWorker {
  readonly tasks: Task[] = []
  answer: Answer = () => 'pending'

  constructor(
    readonly workerId: WorkerId,
    private readonly messaging: Messaging,
  ) {
    messaging.connection.subscribe(workerSubject(workerId, 'task'), {
      callback: (_, message) => {
        const task = message.json<Task>()
        this.tasks.push(task)
        void this.reply(task).then((reply) => message.respond(JSON.stringify(reply)))
      },
    })
  }

  /** Nobody answers on its subject any more. */
  away(): Promise<void> {
    return this.messaging.close()
  }

  private async reply(task: Task): Promise<object> {
    try {
      const result = await this.answer(task)
      if (result !== 'pending') return { ok: true, pending: false, result }
      await new Promise((resolve) => setTimeout(resolve, 100))
      return { ok: true, pending: true }
    } catch (error) {
      return { error: toErrorBody(error) }
    }
  }
}

function specWith(volumes: VolumeMount[]): SandboxSpec {
  return {
    runtime: 'gvisor',
    image: { imageId: makeId('im', 1, Buffer.alloc(10)), ref: 'base:latest' },
    command: null,
    workdir: null,
    user: null,
    envNames: [],
    resources: { cpuMillis: 125, memoryBytes: GIB, diskBytes: GIB },
    cpuLimitMillis: null,
    diskLimitBytes: GIB,
    timeoutMs: 300_000,
    idleTimeoutMs: null,
    network: 'none',
    volumes,
    name: null,
    tags: {},
  }
}
