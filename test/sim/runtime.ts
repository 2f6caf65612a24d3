/** The fake runtime: a driver as the worker sees one, over sandboxes that are entries of a simulated machine. */

import type { AgentExit, AgentSession, ExecOutcome, ExecRequest, KnownExec } from '#libs/agent-client'
import { type SandboxId, SandtrailError } from '#libs/domain'
import {
  type RunningSandbox,
  type RuntimeDriver,
  type RuntimeExit,
  type RuntimeRequest,
  StepFailed,
} from '../../apps/runtime-worker/runtime.js'
import { Guest, type Machine } from './guest.js'
import type { Judge } from './judge.js'
import type { SimProcess, World } from './world.js'

export interface RuntimeWeather {
  /** Of the steps that make a sandbox. */
  createMs(): number
  failsToCreate(): boolean
  leavesSomething(): boolean
  agentMs(): number
  /** Carried out, and never heard of: the request runs into its deadline. */
  losesAnswer(): boolean
}

const AGENT_DEADLINE_MS = 10_000
/** In so many an exec's output comes, so that a crash may fall between two. */
const PIECES = 4

export class SimRuntime implements RuntimeDriver {
  constructor(
    private readonly world: World,
    private readonly machine: Machine,
    private readonly judge: Judge,
    private readonly weather: RuntimeWeather,
    private readonly owner: SimProcess,
  ) {}

  async probe(): Promise<void> {}

  async create(request: RuntimeRequest, signal: AbortSignal): Promise<RunningSandbox> {
    const { world, machine, judge, weather } = this
    const { sandboxId, epoch, tenant } = request
    await this.reach()
    if (signal.aborted) throw new StepFailed('agent', 'CREATE_ABORTED', 'ended before it was made')
    const guest = new Guest(world, sandboxId, judge.starts)
    judge.created(sandboxId, epoch, machine)
    machine.sandboxes.set(sandboxId, guest)
    world.trace.add('create', tenant, sandboxId, epoch)
    const aborted = new Promise<'aborted'>((resolve) => {
      signal.addEventListener('abort', () => resolve('aborted'), { once: true })
    })
    const made = await Promise.race([world.pause(weather.createMs()), aborted])
    await this.reach()
    world.trace.add('made', sandboxId, String(made), String(guest.isAlive))
    if (made !== 'aborted' && !weather.failsToCreate() && guest.isAlive) return this.hold(request, guest)
    guest.die('it could not be made')
    machine.sandboxes.delete(sandboxId)
    const code = made === 'aborted' ? 'CREATE_ABORTED' : 'RUNTIME_FAILED'
    throw new StepFailed('agent', code, 'the agent did not start')
  }

  async adopt(request: RuntimeRequest): Promise<RunningSandbox | null> {
    await this.reach()
    await this.world.pause(this.weather.agentMs())
    const guest = this.machine.sandboxes.get(request.sandboxId)
    return guest?.isAlive ? this.hold(request, guest) : null
  }

  async postMortem(sandboxId: SandboxId): Promise<RuntimeExit> {
    return { kind: 'gone', detail: this.machine.sandboxes.get(sandboxId)?.detail ?? 'the agent has ended' }
  }

  async destroy(sandboxId: SandboxId): Promise<string[]> {
    await this.reach()
    await this.world.pause(this.weather.agentMs())
    this.machine.sandboxes.get(sandboxId)?.die('destroyed')
    if (this.weather.leavesSomething()) return ['mount']
    this.machine.sandboxes.delete(sandboxId)
    return []
  }

  async sweep(known: ReadonlySet<SandboxId>): Promise<void> {
    await this.reach()
    for (const sandboxId of this.machine.sandboxes.keys()) {
      if (!known.has(sandboxId))
        this.judge.world.violate(`${sandboxId} is on ${this.machine.name} without a record`)
    }
  }

  async stop(): Promise<void> {}

  /** The worker may die right here. */
  private reach(): Promise<void> {
    return this.world.operate((resolve) => resolve())
  }

  private async hold(request: RuntimeRequest, guest: Guest): Promise<RunningSandbox> {
    const { sandboxId, epoch } = request
    const session = new SimAgentSession(this.world, guest, request, this.weather, this.owner)
    await session.connect()
    const exited = new Promise<RuntimeExit>((resolve) => {
      const tell = () => resolve({ kind: 'gone', detail: guest.detail })
      guest.onDeath(() => this.world.after(this.world.random.between(0, 200), tell, this.owner))
    })
    const kill = async () => {
      await this.reach()
      guest.killAll()
      await this.world.pause(this.weather.agentMs())
      guest.die('killed')
      await exited
    }
    return { sandboxId, epoch, agent: session as unknown as AgentSession, volumes: [], exited, kill }
  }
}

/** The host's end of one agent, as `AgentSession` is: requests may time out, exits are told until acknowledged. */
class SimAgentSession {
  private readonly attached = new Set<string>()
  private offsets: Record<string, { stdout: number; stderr: number }> = {}

  constructor(
    private readonly world: World,
    private readonly guest: Guest,
    private readonly request: Pick<RuntimeRequest, 'sink' | 'onExecExit'>,
    private readonly weather: RuntimeWeather,
    private readonly owner: SimProcess,
  ) {}

  async connect(): Promise<void> {
    this.offsets = await this.request.sink.durableOffsets()
    for (const execId of this.guest.openIds) if (Object.hasOwn(this.offsets, execId)) this.attach(execId)
  }

  exec({ execId, argv }: ExecRequest): Promise<ExecOutcome> {
    return this.ask(() => {
      const outcome = this.guest.start(execId, argv)
      return () => {
        if (outcome.state === 'started') this.attach(execId)
        return outcome
      }
    })
  }

  execState(execId: string): Promise<KnownExec> {
    return this.ask(() => {
      const known = this.guest.state(execId)
      return () => {
        if (known.state === 'started') this.attach(execId)
        return known
      }
    })
  }

  signal(execId: string, signal: number): Promise<void> {
    return this.ask(() => {
      this.guest.signal(execId, signal)
      return () => {}
    })
  }

  async sync(): Promise<void> {}

  ping(): Promise<void> {
    return this.ask(() => () => {})
  }

  acknowledgeExit(execId: string): void {
    const tell = () => this.guest.acknowledge(execId)
    this.world.after(this.weather.agentMs(), tell, null)
  }

  /** The agent carries out what reaches it, whether or not its answer reaches us. */
  private ask<T>(carryOut: () => () => T): Promise<T> {
    const { world, guest, weather, owner } = this
    return world.operate((resolve, reject) => {
      const late = world.after(
        AGENT_DEADLINE_MS,
        () => reject(new SandtrailError('AGENT_UNREACHABLE', 'the agent did not answer in time')),
        owner,
      )
      const arrive = () => {
        if (!guest.isAlive) return
        if (world.now < guest.isSilentUntilMs) {
          world.after(guest.isSilentUntilMs - world.now, arrive, null)
          return
        }
        const answer = (settle: () => void) => {
          if (weather.losesAnswer()) return
          const heard = () => {
            late.run = null
            settle()
          }
          world.after(weather.agentMs(), heard, owner)
        }
        try {
          const take = carryOut()
          answer(() => resolve(take()))
        } catch (error) {
          answer(() => reject(error))
        }
      }
      world.after(weather.agentMs(), arrive, null)
    })
  }

  /** From here on its output is taken, and its exit told once all of it is. */
  private attach(execId: string): void {
    if (this.attached.has(execId)) return
    this.attached.add(execId)
    this.guest.onExit(execId, (exit) => {
      this.world.after(this.weather.agentMs(), () => void this.tell(execId, exit).catch(() => {}), this.owner)
    })
  }

  /** What cannot be taken stays unacknowledged, and is told again on the next connection. */
  private async tell(execId: string, exit: AgentExit): Promise<void> {
    const { sink, onExecExit } = this.request
    const output = this.guest.outputOf(execId)
    const from = this.offsets[execId]?.stdout ?? 0
    const piece = Math.ceil((output.length - from) / PIECES)
    for (let at = from; at < output.length; at += piece) {
      await sink.append(execId, 'stdout', at, output.subarray(at, at + piece))
      await this.world.pause(this.weather.agentMs())
    }
    await onExecExit(execId, exit)
  }
}
