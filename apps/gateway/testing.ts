/**
 * For tests only: a real gateway on a real Postgres and a real broker. The scheduler's end is played by the domain's
 * own deciders, the worker's data plane by a small HTTPS server: the whole of both is tested in test/.
 */

import { execFileSync } from 'node:child_process'
import { generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { handleCommand, record, toCommand } from '#libs/command-handling'
import { COMMANDS } from '#libs/contract'
import {
  type AppId,
  decideExec,
  decideSandbox,
  decideTenant,
  decideToken,
  type ExecEvent,
  execAggregate,
  makeId,
  PLATFORM_TENANT,
  type SandboxEvent,
  type SandboxId,
  sandboxAggregate,
  TENANT_QUOTA_DEFAULT,
  type TenantCommand,
  type TenantLimits,
  type TokenCommand,
  tenantAggregate,
  tokenAggregate,
} from '#libs/domain'
import {
  append,
  commandHash,
  createToken,
  ensureTenant,
  type JsonObject,
  load,
  setTenantLimits,
  standingClaim,
  upsertWorker,
} from '#libs/event-store'
import { JetStreamServer, type MessageContext, type Messaging } from '#libs/messaging'
import { createLog } from '#libs/service'
import { createTestDatabase, type TestDatabase } from '../../libs/event-store/testing.js'
import { startNats, type TestNats } from '../../libs/messaging/testing.js'
import { startGateway } from './start.js'
import { formatToken } from './token.js'

export const WORKER = makeId('wk', 1, randomBytes(10))
const TENANT = 'acme'
/** For whoever wants a stream's version alone. */
const NO_STATE = { initial: null, evolve: () => null }
const HASH_KEY = randomBytes(32)

export type DataPlaneHandler = (request: IncomingMessage, response: ServerResponse) => void

export interface TestGateway {
  url: string
  /** Of the Modal SDKs. */
  modalPort: number
  db: TestDatabase
  nats: TestNats
  token: string
  /** A request with the token; the answer's status and JSON. */
  ask(method: string, path: string, body?: object, headers?: Record<string, string>): Promise<Answer>
  /** What the worker's data plane answers from now on. */
  serve(handler: DataPlaneHandler): void
  /** Appends what a worker would report. */
  sandboxEvents(sandboxId: string, events: SandboxEvent[]): Promise<void>
  execEvents(execId: string, events: ExecEvent[]): Promise<void>
  anotherTenantsToken(): Promise<string>
  operatorsToken(): Promise<string>
  stop(): Promise<void>
}

export interface Answer {
  status: number
  // biome-ignore lint/suspicious/noExplicitAny: a test looks into any answer
  body: any
}

export async function startTestGateway(): Promise<TestGateway> {
  const [db, nats] = await Promise.all([createTestDatabase({ max: 20 }), startNats()])
  const dir = mkdtempSync(join(tmpdir(), 'sandtrail-gateway-'))
  const keys = generateKeyPairSync('ed25519')
  const log = createLog('gateway', 'error')
  const gateway = await startGateway(
    {
      nats: {
        servers: nats.url,
        credentials: { user: 'platform', password: 'platform-password-for-tests' },
        tls: {},
      },
      databaseUrl: db.url,
      http: { host: '127.0.0.1', port: 0, tls: null },
      ca: undefined,
      secretFiles: [],
      modalPort: 0,
      publicUrl: 'http://127.0.0.1:9',
      masterKey: randomBytes(32),
      dataPlaneKey: keys.privateKey,
      blobs: { dir: join(dir, 'blobs'), key: randomBytes(32), keepMs: 24 * 3_600_000 },
      trail: null,
      logLevel: 'error',
      service: { readyFile: undefined, metrics: { host: '127.0.0.1', port: 0 } },
    },
    log,
  )
  const platform = await nats.connect()
  const scheduler = await playScheduler(platform, db)
  const dataPlane = await startDataPlane(dir)
  await upsertWorker(db.pool, {
    workerId: WORKER,
    incarnation: 'a',
    capacity: { cpuMillis: 8_000, memoryBytes: 2 ** 36, diskBytes: 2 ** 40 },
    poolFreeBytes: 2 ** 40,
    info: { dataPlaneUrl: dataPlane.url, certificate: dataPlane.certificate },
  })
  const token = formatToken(await createToken(db.pool, { tenant: TENANT, name: 'test' }))
  const appendTo = async (stream: string, events: (SandboxEvent | ExecEvent)[]) => {
    const { version } = await load(db.pool, NO_STATE, stream)
    await append(
      db.pool,
      {
        tenant: TENANT,
        command: {
          id: randomUUID(),
          verb: 'test.report',
          hash: commandHash('test.report', {}),
          expiresAt: new Date(Date.now() + 60_000),
        },
        outcome: {},
        meta: meta('system:test'),
        at: new Date(),
        writes: [{ stream, expectedVersion: version, events: record(events, null) }],
      },
      () => platform.nudge(),
    )
  }
  return {
    url: gateway.url,
    modalPort: gateway.modalPort,
    db,
    nats,
    token,
    async ask(method, path, body, headers = {}) {
      const response = await fetch(new URL(path, gateway.url), {
        method,
        headers: {
          authorization: `Bearer ${token}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
      return { status: response.status, body: await response.json() }
    },
    serve: dataPlane.serve,
    sandboxEvents: appendTo,
    execEvents: appendTo,
    anotherTenantsToken: async () =>
      formatToken(await createToken(db.pool, { tenant: 'umbrella', name: 'test' })),
    operatorsToken: async () =>
      formatToken(await createToken(db.pool, { tenant: TENANT, name: 'operator', operator: true })),
    async stop() {
      await scheduler.close()
      await gateway.stop()
      await dataPlane.stop()
      await nats.close()
      await db.drop()
      rmSync(dir, { recursive: true })
    },
  }
}

/** Takes `sandbox.create|exec|terminate` as the scheduler does, with one worker that is always free. */
async function playScheduler(messaging: Messaging, db: TestDatabase): Promise<JetStreamServer> {
  const options = { db: db.pool, onCommitted: () => messaging.nudge() }
  const newId = <P extends string>(prefix: P) => makeId(prefix, Date.now(), randomBytes(10))
  const server = new JetStreamServer({ messaging, name: 'scheduler' })
  server.handle({ request: 'v1.*.req.sandbox.create' }, async (body: JsonObject, context: MessageContext) => {
    const command = toCommand(COMMANDS['sandbox.create'], 'sandbox.create', context, body, HASH_KEY)
    const sandboxId = newId('sb')
    const { accepted } = await handleCommand(options, command, async () => {
      const {
        env,
        image,
        cpuMillis: _,
        memoryBytes: __,
        diskBytes: ___,
        volumes: ____,
        ...rest
      } = command.body
      const spec = {
        ...rest,
        appId: rest.appId as AppId | null,
        runtime: 'gvisor' as const,
        image: { imageId: makeId('im', 1, Buffer.alloc(10)), ref: image ?? 'base:latest' },
        envNames: Object.keys(env),
        resources: { cpuMillis: 125, memoryBytes: 2 ** 27, diskBytes: 2 ** 30 },
        diskLimitBytes: rest.diskLimitBytes ?? 2 ** 39,
        timeoutMs: rest.timeoutMs ?? 300_000,
        volumes: [],
      }
      const events = decideSandbox(sandboxAggregate.initial, {
        type: 'CreateSandbox',
        spec,
        placement: { workerId: WORKER, epoch: 1 },
      })
      const name = spec.name === null ? [] : [{ kind: 'sandbox-name', key: spec.name, holder: sandboxId }]
      return {
        outcome: { sandboxId },
        writes: [{ stream: sandboxId, expectedVersion: 0, events: record(events, null) }],
        claims: { take: name },
      }
    })
    return accepted
  })
  server.handle({ request: 'v1.*.req.sandbox.exec' }, async (body: JsonObject, context: MessageContext) => {
    const command = toCommand(COMMANDS['sandbox.exec'], 'sandbox.exec', context, body, HASH_KEY)
    const { argv, pty, stdin, timeoutMs, user, workdir, env } = command.body
    const sandboxId = command.body.sandboxId as SandboxId
    const execId = newId('ex')
    const { accepted } = await handleCommand(options, command, async () => {
      const spec = {
        sandboxId,
        epoch: 1,
        argv,
        workdir,
        user,
        envNames: Object.keys(env),
        pty,
        stdin,
        timeoutMs,
      }
      const events = decideExec(execAggregate.initial, { type: 'RequestExec', spec })
      return {
        outcome: { execId, sandboxId },
        writes: [{ stream: execId, expectedVersion: 0, events: record(events, null) }],
      }
    })
    return accepted
  })
  server.handle(
    { request: 'v1.*.req.sandbox.terminate' },
    async (body: JsonObject, context: MessageContext) => {
      const command = toCommand(COMMANDS['sandbox.terminate'], 'sandbox.terminate', context, body, HASH_KEY)
      const { accepted } = await handleCommand(options, command, async () => {
        const stream = command.body.sandboxId
        const { state, version } = await load(db.pool, sandboxAggregate, stream, { tenant: context.tenant })
        const events = decideSandbox(state, { type: 'TerminateSandbox', reason: 'terminate' })
        return { outcome: {}, writes: [{ stream, expectedVersion: version, events: record(events, null) }] }
      })
      return accepted
    },
  )
  playAdministration(server, options)
  await server.listen((error) => {
    if (error) throw error
  })
  return server
}

/** Records what operators decide, and gives a tenant its row. What follows from a suspension is the scheduler's alone. */
function playAdministration(
  server: JetStreamServer,
  options: { db: TestDatabase['pool']; onCommitted(): void },
): void {
  const { db } = options
  const tenant = PLATFORM_TENANT
  for (const verb of ['create', 'limit', 'suspend', 'resume'] as const) {
    const name = `tenant.${verb}` as const
    server.handle(
      { request: `v1.platform.req.${name}` },
      async (body: JsonObject, context: MessageContext) => {
        const command = toCommand(COMMANDS[name], name, context, body, HASH_KEY)
        const { accepted } = await handleCommand(options, command, async () => {
          const stream = `tenant:${command.body.tenant}`
          const { state, version } = await load(db, tenantAggregate, stream, { tenant })
          const type = {
            create: 'CreateTenant',
            limit: 'LimitTenant',
            suspend: 'SuspendTenant',
            resume: 'ResumeTenant',
          }[verb]
          const events = decideTenant(state, { ...command.body, type } as TenantCommand)
          const claim = standingClaim('suspended', command.body.tenant)
          const claims = { suspend: { take: [claim] }, resume: { release: [claim] }, create: {}, limit: {} }[
            verb
          ]
          return {
            outcome: {},
            writes: [{ stream, expectedVersion: version, events: record(events) }],
            ...(events.length > 0 && { claims }),
          }
        })
        if ('limits' in command.body) {
          await ensureTenant(db, command.body.tenant)
          const limits =
            verb === 'create' ? { ...TENANT_QUOTA_DEFAULT, ...command.body.limits } : command.body.limits
          await setTenantLimits(db, command.body.tenant, limits as Partial<TenantLimits>)
        }
        return accepted
      },
    )
  }
  for (const verb of ['create', 'revoke'] as const) {
    const name = `token.${verb}` as const
    server.handle(
      { request: `v1.platform.req.${name}` },
      async (body: JsonObject, context: MessageContext) => {
        const command = toCommand(COMMANDS[name], name, context, body, HASH_KEY)
        const { accepted } = await handleCommand(options, command, async () => {
          const stream = `token:${command.body.tenant}:${command.body.tokenId}`
          const { state, version } = await load(db, tokenAggregate, stream, { tenant })
          const type = verb === 'create' ? 'CreateToken' : 'RevokeToken'
          const events = decideToken(state, { ...command.body, type } as TokenCommand)
          return { outcome: {}, writes: [{ stream, expectedVersion: version, events: record(events) }] }
        })
        return accepted
      },
    )
  }
}

async function startDataPlane(dir: string) {
  const [key, cert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')]
  const algorithm = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  const subject = ['-subj', '/CN=test', '-addext', 'subjectAltName=IP:127.0.0.1']
  execFileSync('openssl', ['req', ...algorithm, ...subject, '-keyout', key, '-out', cert], {
    stdio: 'ignore',
  })
  const certificate = readFileSync(cert, 'utf8')
  let handler: DataPlaneHandler = (_request, response) => response.writeHead(500).end()
  const server = createServer({ key: readFileSync(key), cert: certificate }, (request, response) =>
    handler(request, response),
  )
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `https://127.0.0.1:${port}`,
    certificate,
    serve(next: DataPlaneHandler) {
      handler = next
    },
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

function meta(actor: string) {
  return {
    actor,
    causationId: null,
    correlationId: null,
    traceparent: null,
    workerId: WORKER,
    epoch: 1,
  }
}
