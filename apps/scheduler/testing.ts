/**
 * For tests only: a real scheduler on a real Postgres and a real broker, and a worker's end of the wire that answers
 * orders as it is told. What a real worker does is tested with real workers, in test/.
 */

import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { record } from '#libs/command-handling'
import {
  type Fact,
  type Heartbeat,
  type HeartbeatReply,
  type Order,
  parseOrder,
  type ReportReply,
  type SealedSecrets,
} from '#libs/contract'
import { decideImage, evolveImage, imageAggregate, makeId, type SandboxId, type WorkerId } from '#libs/domain'
import { append, commandHash, createSignerKey, type RecordedEvent, readStream } from '#libs/event-store'
import {
  commandHeaders,
  controlSubject,
  createSealKey,
  createWorkerIdentity,
  type JsonObject,
  type Messaging,
  openSealed,
  subjects,
  workerSubject,
} from '#libs/messaging'
import { createLog, type Running } from '#libs/service'
import { createTestDatabase, type TestDatabase } from '../../libs/event-store/testing.js'
import { startNats, type TestNats } from '../../libs/messaging/testing.js'
import type { SchedulerConfig } from './config.js'
import { startScheduler } from './start.js'

export const TENANT = 'acme'
const GIB = 1024 ** 3
/** The broker's configuration must know them before it starts. */
const WORKERS_MAX = 6

export interface TestScheduler {
  db: TestDatabase
  nats: TestNats
  /** As a tenant's program, or the gateway, would ask. */
  ask(verb: string, body: object, options?: { id?: string; expiresAt?: Date }): Promise<JsonObject>
  askApp(verb: string, body: object): Promise<JsonObject>
  queue(verb: string, body: object, id: string): Promise<void>
  client: Messaging
  events(stream: string): Promise<RecordedEvent[]>
  types(stream: string): Promise<string[]>
  image(name: string, replicas: WorkerId[], tenant?: string): Promise<string>
  worker(options?: { memoryBytes?: number }): Promise<TestWorker>
  startAnother(): Promise<Running>
  stop(): Promise<void>
}

/** `given`: a database to go on with, and the tenant whose commands are sent; both are new otherwise. */
export async function startTestScheduler(
  overrides: Partial<SchedulerConfig> = {},
  given: { db?: TestDatabase; tenant?: string } = {},
): Promise<TestScheduler> {
  const { db = await createTestDatabase({ max: 30 }), tenant: own = TENANT } = given
  const identities = Array.from({ length: WORKERS_MAX }, newIdentity)
  const nats = await startNats({ workers: identities.map(({ id, nkeyPublic }) => ({ id, nkeyPublic })) })
  const dir = await mkdtemp(join(tmpdir(), 'sandtrail-scheduler-'))
  const platform = { user: 'platform', password: 'platform-password-for-tests' }
  createSignerKey(join(dir, 'trail.key'))
  const config: SchedulerConfig = {
    SANDTRAIL_NATS_URL: nats.url,
    SANDTRAIL_NATS_CREDENTIALS_FILE: platform,
    SANDTRAIL_LOG_LEVEL: 'error',
    SANDTRAIL_METRICS_HOST: '127.0.0.1',
    SANDTRAIL_METRICS_PORT: 0,
    SANDTRAIL_DATABASE_URL: db.url,
    SANDTRAIL_MASTER_KEY_FILE: randomBytes(32),
    SANDTRAIL_TRAIL_FILE: join(dir, 'trail.jsonl'),
    SANDTRAIL_TRAIL_KEY_FILE: join(dir, 'trail.key'),
    SANDTRAIL_TRAIL_ORIGIN: 'test',
    SANDTRAIL_CPU_FACTOR: 16,
    SANDTRAIL_LEASE_GRACE_MS: 30_000,
    ...overrides,
  }
  const log = createLog('scheduler', 'error')
  const running = [await startScheduler(config, log)]
  const client = await nats.connect()
  const workers: TestWorker[] = []

  const headers = (commandId: string, expiresAt = new Date(Date.now() + 60_000)) =>
    commandHeaders({ commandId, expiresAt })
  return {
    db,
    nats,
    client,
    ask: (verb, body, { id = randomUUID(), expiresAt } = {}) =>
      client.request(subjects.request(own, 'sandbox', verb), body, {
        headers: headers(id, expiresAt),
        timeoutMs: 20_000,
      }),
    askApp: (verb, body) =>
      client.request(subjects.request(own, 'app', verb), body, { headers: headers(randomUUID()) }),
    async queue(verb, body, id) {
      await client.publishCommand(subjects.command(own, 'sandbox', verb), body, headers(id))
    },
    events: (stream) => readStream(db.pool, stream),
    types: async (stream) => (await readStream(db.pool, stream)).map(({ type }) => type),
    image: (name, replicas, tenant) => importedImage(db, name, replicas, tenant),
    async worker({ memoryBytes = 8 * GIB } = {}) {
      const identity = identities[workers.length]!
      const messaging = await nats.connect({ credentials: { nkeySeed: identity.seed } })
      const worker = new TestWorker(messaging, identity.id, memoryBytes)
      workers.push(worker)
      await worker.heartbeat()
      return worker
    },
    async startAnother() {
      const another = await startScheduler(config, log)
      running.push(another)
      return another
    },
    async stop() {
      for (const worker of workers) await worker.close()
      for (const scheduler of running) await scheduler.stop()
      await client.close()
      await nats.close()
      await db.drop()
      await rm(dir, { recursive: true })
    },
  }
}

function newIdentity() {
  const { seed, publicKey } = createWorkerIdentity()
  return { id: makeId('wk', Date.now(), randomBytes(10)), seed, nkeyPublic: publicKey }
}

/** An image as the snapshotter would have recorded it. */
export async function importedImage(
  db: Pick<TestDatabase, 'pool'>,
  name: string,
  replicas: WorkerId[],
  tenant = TENANT,
): Promise<string> {
  const imageId = makeId('im', Date.now(), randomBytes(10))
  const commands = [
    { type: 'ImportImage' as const, name, sha256: 'f'.repeat(64), bytes: 1 },
    ...replicas.map((workerId) => ({ type: 'ReportReplicated' as const, workerId })),
    { type: 'CompleteImport' as const },
  ]
  let state = imageAggregate.initial
  const events = commands.flatMap((command) => {
    const decided = decideImage(state, command)
    for (const event of decided)
      state = evolveImage(state, { ...event, data: event.data as JsonObject, version: 0, atMs: 0 })
    return decided
  })
  const id = randomUUID()
  await append(db.pool, {
    tenant,
    command: {
      id,
      verb: 'image.import',
      hash: commandHash('image.import', { id }),
      expiresAt: new Date(Date.now() + 60_000),
    },
    outcome: {},
    meta: {
      actor: 'test',
      causationId: null,
      correlationId: null,
      traceparent: null,
      workerId: null,
      epoch: null,
    },
    at: new Date(),
    writes: [{ stream: imageId, expectedVersion: 0, events: record(events) }],
    claims: { take: [{ kind: 'image-name', key: name, holder: imageId }] },
  })
  return imageId
}

export class TestWorker {
  readonly orders: Order[] = []
  /** What its heartbeat lists. */
  sandboxes: Heartbeat['sandboxes'] = []
  openExecs: Heartbeat['openExecs'] = []
  private readonly sealKey = createSealKey()
  private readonly waiting: (() => void)[] = []
  private readonly factSeqs = new Map<string, number>()

  constructor(
    private readonly messaging: Messaging,
    readonly workerId: WorkerId,
    private readonly memoryBytes: number,
  ) {
    messaging.connection.subscribe(workerSubject(workerId, 'order'), {
      callback: (error, message) => {
        if (error) throw error
        this.orders.push(parseOrder(message.json()))
        message.respond(JSON.stringify({ ok: true, known: false }))
        for (const wake of this.waiting.splice(0)) wake()
      },
    })
  }

  async heartbeat(): Promise<Order[]> {
    const reply = await this.messaging.request(controlSubject(this.workerId, 'heartbeat'), {
      workerId: this.workerId,
      incarnation: 'one',
      info: {
        hostname: 'host',
        version: '0',
        runtimes: ['gvisor'],
        dataPlaneUrl: 'https://127.0.0.1:1',
        certificate: '',
        sealKey: this.sealKey.publicKey,
      },
      capacity: { cpuMillis: 2_000, memoryBytes: this.memoryBytes, diskBytes: 100 * GIB },
      poolFreeBytes: 50 * GIB,
      sandboxes: this.sandboxes,
      openExecs: this.openExecs,
    } satisfies Heartbeat)
    return (reply as unknown as HeartbeatReply).orders.map(parseOrder)
  }

  /** The next order of this kind for this sandbox, which may have come already. */
  async order<K extends Order['kind']>(kind: K, sandboxId: string): Promise<Extract<Order, { kind: K }>> {
    for (;;) {
      const found = this.orders.find((order) => order.kind === kind && order.sandboxId === sandboxId)
      if (found) return found as Extract<Order, { kind: K }>
      await new Promise<void>((resolve) => this.waiting.push(resolve))
    }
  }

  /** Sends facts with the next numbers; `redo` sends those again that were sent last. */
  async report(
    sandboxId: string,
    facts: DistributiveOmit<Fact, 'factSeq' | 'observedAtMs'>[],
    epoch = 1,
  ): Promise<ReportReply> {
    const first = (this.factSeqs.get(sandboxId) ?? 0) + 1
    this.factSeqs.set(sandboxId, first + facts.length - 1)
    return this.reportFrom(first, sandboxId, facts, epoch)
  }

  async reportFrom(
    first: number,
    sandboxId: string,
    facts: DistributiveOmit<Fact, 'factSeq' | 'observedAtMs'>[],
    epoch = 1,
  ) {
    const numbered = facts.map((fact, index) => ({
      ...fact,
      factSeq: first + index,
      observedAtMs: Date.now(),
    }))
    const body = { tenant: TENANT, sandboxId: sandboxId as SandboxId, epoch, facts: numbered }
    return (await this.messaging.request(
      controlSubject(this.workerId, 'report'),
      body,
    )) as unknown as ReportReply
  }

  open(sealed: SealedSecrets): unknown {
    if (sealed === null) return { env: {} }
    return JSON.parse(Buffer.from(openSealed(this.sealKey.seed, sealed)).toString())
  }

  close(): Promise<void> {
    return this.messaging.close()
  }
}

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never
