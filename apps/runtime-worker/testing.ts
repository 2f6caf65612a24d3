/**
 * For tests only: a worker with the fake runtime and the real agent, a real broker, and a control plane that takes
 * facts as the scheduler would: in order, without a gap, each once.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Msg } from '@nats-io/transport-node'
import { SignJWT } from 'jose'
import type { Fact, Heartbeat, Order, OrderReply, Report, Secrets } from '#libs/contract'
import {
  type ExecId,
  type ExecSpec,
  makeId,
  type SandboxId,
  type SandboxSpec,
  type WorkerId,
} from '#libs/domain'
import { createWorkerIdentity, type Messaging, sealTo, workerSubject } from '#libs/messaging'
import { eventually, startNats, type TestNats } from '../../libs/messaging/testing.js'
import { tools } from '../../scripts/system/tools.mjs'

export const TENANT = 'acme'

export const newSandboxId = (): SandboxId => makeId('sb', Date.now(), randomBytes(10))
export const newExecId = (): ExecId => makeId('ex', Date.now(), randomBytes(10))

export function sandboxSpec(overrides: Partial<SandboxSpec> = {}): SandboxSpec {
  return {
    runtime: 'gvisor',
    image: { imageId: makeId('im', Date.now(), randomBytes(10)), ref: 'base' },
    command: null,
    workdir: null,
    user: null,
    envNames: [],
    resources: { cpuMillis: 125, memoryBytes: 128 * 1024 ** 2, diskBytes: 1024 ** 3 },
    cpuLimitMillis: null,
    diskLimitBytes: 1024 ** 3,
    timeoutMs: 120_000,
    idleTimeoutMs: null,
    network: 'none',
    volumes: [],
    name: null,
    tags: {},
    ...overrides,
  }
}

type Ended<K> = Extract<Fact, { kind: K }>

/** What the scheduler keeps of one sandbox. */
export class TakenFacts {
  readonly list: Fact[] = []

  of<K extends Fact['kind']>(kind: K, execId?: ExecId): Ended<K>[] {
    return this.list.filter(
      (fact): fact is Ended<K> =>
        fact.kind === kind && (!execId || ('execId' in fact && fact.execId === execId)),
    )
  }
}

export class TestControlPlane {
  readonly facts = new Map<SandboxId, TakenFacts>()
  /** What went against the contract: a gap, a repetition of something else, damaged bodies. */
  readonly faults: string[] = []
  readonly reports: Report[] = []
  heartbeat: Heartbeat | null = null
  heartbeats = 0
  /** Given with the next heartbeat's reply. */
  orders: Order[] = []
  /** `away`: nobody answers. */
  mode: 'take' | 'away' | 'fence' = 'take'

  constructor(readonly messaging: Messaging) {
    messaging.connection.subscribe('ctl.>', { callback: (_, message) => this.onMessage(message) })
  }

  of(sandboxId: SandboxId): TakenFacts {
    const taken = this.facts.get(sandboxId) ?? new TakenFacts()
    this.facts.set(sandboxId, taken)
    return taken
  }

  async until<K extends Fact['kind']>(
    sandboxId: SandboxId,
    kind: K,
    execId?: ExecId,
    ms = 15_000,
  ): Promise<Ended<K>> {
    const found = () => this.of(sandboxId).of(kind, execId)[0]
    await eventually(() => found() !== undefined, ms).catch(() => {
      throw new Error(`no ${kind} of ${execId ?? sandboxId}: ${JSON.stringify(this.of(sandboxId).list)}`)
    })
    return found()!
  }

  private onMessage(message: Msg): void {
    if (this.mode === 'away') return
    const body = message.json<Heartbeat & Report>()
    const reply = message.subject.endsWith('.heartbeat') ? this.onHeartbeat(body) : this.onReport(body)
    message.respond(JSON.stringify({ ok: true, ...reply }))
  }

  private onHeartbeat(heartbeat: Heartbeat) {
    this.heartbeat = heartbeat
    this.heartbeats += 1
    return { orders: this.orders.splice(0) }
  }

  private onReport(report: Report) {
    this.reports.push(report)
    if (this.mode === 'fence') return { acceptedTo: 0, fenced: true }
    const { list } = this.of(report.sandboxId)
    for (const fact of report.facts) {
      const known = list[fact.factSeq - 1]
      if (known === undefined && fact.factSeq === list.length + 1) list.push(fact)
      else if (JSON.stringify(known) !== JSON.stringify(fact))
        this.faults.push(JSON.stringify({ known, fact }))
    }
    return { acceptedTo: report.facts.at(-1)!.factSeq, fenced: false }
  }
}

export interface WorkerWorld {
  control: TestControlPlane
  nats: TestNats
  workerId: WorkerId
  stateDir: string
  dir: string
  /** Starts the worker as a process of its own. With a failpoint it may die before it is ready. */
  start(options?: { failpoint?: string; env?: Record<string, string> }): Promise<WorkerProcess>
  order(order: Order): Promise<OrderReply>
  create(spec?: Partial<SandboxSpec>, secrets?: Secrets): Promise<SandboxId>
  exec(sandboxId: SandboxId, argv: string[], more?: Partial<ExecSpec>, secrets?: Secrets): Promise<ExecId>
  execOrder(
    sandboxId: SandboxId,
    execId: ExecId,
    argv: string[],
    more?: Partial<ExecSpec>,
    secrets?: Secrets,
  ): Order
  createOrder(sandboxId: SandboxId, spec?: Partial<SandboxSpec>, secrets?: Secrets): Order
  stop(sandboxId: SandboxId): Promise<void>
  /** Where the worker keeps the records of a sandbox. */
  dirOf(sandboxId: SandboxId): string
  /** A request on the data plane, with the pinned certificate. */
  token(sandboxId: SandboxId, claims?: { audience?: string; issuedAt?: number }): Promise<string>
  close(): Promise<void>
}

export interface WorkerProcess {
  pid: number
  kill(): Promise<void>
  /** Resolves when a failpoint has ended it. */
  died(): Promise<void>
  /** SIGTERM; resolves with the exit code. */
  stop(): Promise<number | null>
  exited: Promise<number | null>
}

export async function startWorld(): Promise<WorkerWorld> {
  // Short: a socket's path has 107 bytes at most.
  const dir = mkdtempSync(join(tmpdir(), 'stw-'))
  const stateDir = join(dir, 's')
  const workerId = makeId('wk', Date.now(), randomBytes(10))
  const { seed, publicKey } = createWorkerIdentity()
  const nats = await startNats({ workers: [{ id: workerId, nkeyPublic: publicKey }] })
  const control = new TestControlPlane(await nats.connect())
  const keys = generateKeyPairSync('ed25519')
  writeFileSync(join(dir, 'nats.json'), JSON.stringify({ nkeySeed: seed }), { mode: 0o600 })
  writeFileSync(join(dir, 'dp.pub'), keys.publicKey.export({ type: 'spki', format: 'pem' }))
  const processes: WorkerProcess[] = []

  const env = {
    SANDTRAIL_NATS_URL: nats.url,
    SANDTRAIL_NATS_CREDENTIALS_FILE: join(dir, 'nats.json'),
    SANDTRAIL_READY_FILE: join(dir, 'ready'),
    SANDTRAIL_METRICS_PORT: '0',
    SANDTRAIL_LOG_LEVEL: process.env.TEST_LOG_LEVEL ?? 'error',
    SANDTRAIL_WORKER_ID: workerId,
    SANDTRAIL_INSTANCE: randomBytes(4).toString('hex'),
    SANDTRAIL_WORKER_STATE_DIR: stateDir,
    SANDTRAIL_RUNTIME: 'fake',
    SANDTRAIL_AGENT: findAgent(),
    SANDTRAIL_DATA_PLANE_PUBLIC_KEY_FILE: join(dir, 'dp.pub'),
  }
  const seal = (secrets: Secrets) =>
    sealTo(control.heartbeat!.info.sealKey, Buffer.from(JSON.stringify(secrets)))
  const to = (sandboxId: SandboxId) => ({ tenant: TENANT, sandboxId, epoch: 1 })

  const world: WorkerWorld = {
    control,
    nats,
    workerId,
    stateDir,
    dir,
    async start({ failpoint, env: more = {} } = {}) {
      // One at a time: what a failed test left must not hold up the next.
      for (const former of processes.splice(0)) await former.kill()
      rmSync(join(dir, 'ready'), { force: true })
      const beats = control.heartbeats
      const started = runWorker({ ...env, ...more }, failpoint)
      processes.push(started)
      let isOver = false
      void started.exited.then(() => {
        isOver = true
      })
      const ready = () =>
        existsSync(join(dir, 'ready')) && (control.heartbeats > beats || control.mode === 'away')
      await eventually(() => isOver || ready(), 30_000)
      if (isOver && !failpoint) throw new Error('the worker did not start; set TEST_LOG_LEVEL=info')
      return started
    },
    async order(order) {
      return (await control.messaging.request(
        workerSubject(workerId, 'order'),
        order,
      )) as unknown as OrderReply
    },
    createOrder: (sandboxId, spec = {}, secrets = { env: {} }) => ({
      kind: 'create',
      ...to(sandboxId),
      spec: sandboxSpec(spec),
      secrets: seal(secrets),
    }),
    execOrder: (sandboxId, execId, argv, more = {}, secrets = { env: { PATH: '/usr/bin:/bin' } }) => ({
      kind: 'exec',
      ...to(sandboxId),
      execId,
      spec: {
        sandboxId,
        epoch: 1,
        argv,
        // The fake runtime shares the host's root.
        workdir: dir,
        user: null,
        envNames: [],
        pty: null,
        stdin: 'closed',
        timeoutMs: null,
        ...more,
      },
      secrets: seal(secrets),
      startByMs: 20_000,
    }),
    async create(spec, secrets) {
      const sandboxId = newSandboxId()
      await world.order(world.createOrder(sandboxId, spec, secrets))
      return sandboxId
    },
    async exec(sandboxId, argv, more, secrets) {
      const execId = newExecId()
      await world.order(world.execOrder(sandboxId, execId, argv, more, secrets))
      return execId
    },
    async stop(sandboxId) {
      await world.order({ kind: 'stop', reason: 'terminate', ...to(sandboxId) })
    },
    dirOf: (sandboxId) => join(stateDir, 'sandboxes', sandboxId),
    token: (sandboxId, { audience = workerId, issuedAt } = {}) =>
      new SignJWT()
        .setProtectedHeader({ alg: 'EdDSA' })
        .setSubject(sandboxId)
        .setAudience(audience)
        .setIssuedAt(issuedAt)
        .sign(keys.privateKey),
    async close() {
      for (const started of processes) await started.kill()
      for (const pid of agentsOf(stateDir)) process.kill(pid, 'SIGKILL')
      await nats.close()
      rmSync(dir, { recursive: true, force: true })
    },
  }
  return world
}

/** Pids of the fake runtime's agents below a directory: the worker's, or one sandbox's. */
export function agentsOf(dir: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => argvOf(pid).some((word) => word.startsWith(dir)))
    .filter((pid) => argvOf(pid)[0]?.endsWith('sandtrail-agent'))
    .map(Number)
}

function argvOf(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
  } catch {
    return [] // It has ended meanwhile.
  }
}

function runWorker(env: Record<string, string>, failpoint: string | undefined): WorkerProcess {
  const argv = ['--conditions=source', '--import', 'tsx', join(import.meta.dirname, 'main.ts')]
  const armed = failpoint === undefined ? {} : { SANDTRAIL_FAILPOINT: failpoint }
  if (failpoint !== undefined) argv.unshift('--conditions=failpoints')
  const child: ChildProcess = spawn(process.execPath, argv, {
    env: { PATH: process.env.PATH ?? '', TSX_TSCONFIG_PATH: 'tsconfig.json', ...env, ...armed },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const exited = once(child, 'exit').then(([code]) => code as number | null)
  const end = async (signal: NodeJS.Signals) => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal)
    return exited
  }
  return {
    pid: child.pid!,
    exited,
    async died() {
      await eventually(() => child.signalCode === 'SIGKILL', 10_000)
    },
    stop: () => end('SIGTERM'),
    async kill() {
      await end('SIGKILL')
    },
  }
}

function findAgent(): string {
  const path = process.env.SANDTRAIL_AGENT || tools().SANDTRAIL_AGENT
  if (!path || !existsSync(path))
    throw new Error("there is no agent: run 'make setup', or set SANDTRAIL_AGENT")
  return path
}
