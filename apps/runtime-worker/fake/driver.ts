/**
 * A runtime without isolation: the agent as a plain process of this host, in a directory of its own. It exists for
 * load and simulation only. Programs that it runs can do whatever this service can; never give it untrusted code.
 * It has neither images nor volumes, network, limits or a root of its own.
 */

import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { access, mkdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { AgentSession } from '#libs/agent-client'
import type { SandboxId } from '#libs/domain'
import type { Log } from '#libs/service'
import { writeDurably } from '#libs/storage'
import { Liveness } from '../host/liveness.js'
import { identify, isAlive, type ProcessIdentity } from '../host/process.js'
import { until } from '../host/wait.js'
import {
  type RunningSandbox,
  type RuntimeDriver,
  type RuntimeExit,
  type RuntimeRequest,
  StepFailed,
} from '../runtime.js'

export interface FakeOptions {
  agentBinary: string
  stateDir: string
  log: Log
}

const AGENT_MS_MAX = 10_000
const KILL_MS_MAX = 5_000
const GONE: RuntimeExit = { kind: 'gone', detail: 'the agent has ended' }

export class FakeDriver implements RuntimeDriver {
  private readonly liveness = new Liveness()
  private readonly sessions = new Map<SandboxId, AgentSession>()

  constructor(private readonly options: FakeOptions) {}

  async probe(): Promise<void> {
    await access(this.options.agentBinary)
  }

  async create(request: RuntimeRequest, signal: AbortSignal): Promise<RunningSandbox> {
    if (request.spec.volumes.length > 0) {
      throw new StepFailed('volumes', 'UNIMPLEMENTED', 'the fake runtime has no volumes')
    }
    const home = join(request.dir, 'runtime')
    await mkdir(join(home, 'root'), { recursive: true })
    const token = randomBytes(32).toString('base64url')
    await writeDurably(join(home, 'token'), token)
    const { agent, connected } = await this.openSession(request, home, token)
    try {
      const process = await this.startAgent(home, token)
      await within(connected, AbortSignal.any([signal, AbortSignal.timeout(AGENT_MS_MAX)]))
      return this.hold(request, agent, process)
    } catch (cause) {
      await this.destroy(request.sandboxId, request.dir)
      throw new StepFailed(
        'agent',
        signal.aborted ? 'CREATE_ABORTED' : 'RUNTIME_FAILED',
        'the agent did not start',
        {
          cause,
        },
      )
    }
  }

  async adopt(request: RuntimeRequest): Promise<RunningSandbox | null> {
    const home = join(request.dir, 'runtime')
    const process = findAgent(home)
    if (process === null) return null
    const token = await readFile(join(home, 'token'), 'utf8')
    const { agent, connected } = await this.openSession(request, home, token)
    await within(connected, AbortSignal.timeout(AGENT_MS_MAX))
    return this.hold(request, agent, process)
  }

  async postMortem(): Promise<RuntimeExit> {
    return GONE
  }

  async destroy(sandboxId: SandboxId, dir: string): Promise<string[]> {
    const home = join(dir, 'runtime')
    await this.sessions.get(sandboxId)?.stop()
    this.sessions.delete(sandboxId)
    const process = findAgent(home)
    if (process !== null && !(await endProcess(process))) return [`process ${process.pid}`]
    await rm(home, { recursive: true, force: true })
    return existsSync(home) ? [home] : []
  }

  async sweep(): Promise<void> {
    // Everything of a fake sandbox is in its own directory.
  }

  async stop(): Promise<void> {
    this.liveness.stop()
    for (const agent of this.sessions.values()) await agent.stop()
  }

  private async openSession(request: RuntimeRequest, home: string, token: string) {
    const { sandboxId, sink, onExecExit: onExit } = request
    const connected = Promise.withResolvers<unknown>()
    const agent = new AgentSession({
      socketPath: socketIn(home),
      token,
      sink,
      onExit,
      onConnected: connected.resolve,
      onDisconnected: () => this.liveness.look(),
      log: this.options.log,
    })
    await agent.start()
    this.sessions.set(sandboxId, agent)
    return { agent, connected: connected.promise }
  }

  private async startAgent(home: string, token: string): Promise<ProcessIdentity> {
    // A session of its own, so that it outlives this process as a real sandbox does.
    const child = spawn(this.options.agentBinary, ['--socket', socketIn(home)], {
      cwd: join(home, 'root'),
      env: { PATH: process.env.PATH ?? '/usr/bin:/bin', SANDTRAIL_AGENT_TOKEN: token },
      stdio: 'ignore',
      detached: true,
    })
    child.unref()
    const identity = child.pid === undefined ? null : identify(child.pid)
    if (identity === null) throw new Error('the agent ended as soon as it had started')
    return identity
  }

  private hold(request: RuntimeRequest, agent: AgentSession, process: ProcessIdentity): RunningSandbox {
    const { sandboxId, epoch } = request
    const exited = this.liveness.untilDead(process).then(() => GONE)
    const kill = async (graceMs: number) => {
      await agent.shutdown(graceMs).catch(() => {}) // Then by force.
      await endProcess(process)
      this.liveness.look()
      await exited
    }
    return { sandboxId, epoch, agent, volumes: [], exited, kill }
  }
}

async function within(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  const aborted = once(signal, 'abort').then(() => signal.throwIfAborted())
  signal.throwIfAborted()
  await Promise.race([work, aborted])
}

function socketIn(home: string): string {
  return join(home, 'agent.sock')
}

/** By its arguments, so that it needs no record and is found whenever this process died. */
function findAgent(home: string): ProcessIdentity | null {
  for (const name of readdirSync('/proc')) {
    if (/^\d+$/.test(name) && argvOf(name).includes(socketIn(home))) return identify(Number(name))
  }
  return null
}

function argvOf(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
  } catch {
    return [] // It has ended meanwhile.
  }
}

/** False when it would not go. */
async function endProcess(identity: ProcessIdentity): Promise<boolean> {
  if (isAlive(identity)) process.kill(identity.pid, 'SIGKILL')
  return until(() => !isAlive(identity), { timeoutMs: KILL_MS_MAX })
}
