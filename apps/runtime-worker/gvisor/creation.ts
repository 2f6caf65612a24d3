/** The making of one sandbox, step by step. Whoever calls this undoes what was made when it fails. */

import type { AgentSession } from '#libs/agent-client'
import type { SandboxSpec } from '#libs/domain'
import { failpoint } from '#libs/failpoint'
import { type Log, traced } from '#libs/service'
import type { Pool } from '#libs/storage'
import { type CgroupLimits, type CpuLimits, createCgroup, joinFile, setCpuLimits } from '../cgroup/index.js'
import { CommandFailed } from '../host/command.js'
import { identify } from '../host/process.js'
import { createStepSeconds } from '../metrics.js'
import type { SandboxLink } from '../network/addressing.js'
import { netnsPath } from '../network/netns.js'
import type { SandboxNetworks } from '../network/networks.js'
import { type MountedVolume, type RuntimeRequest, StepFailed } from '../runtime.js'
import type { UndoLog } from '../unwind.js'
import { etcFiles, GUEST, hostnameOf, ociSpec } from './bundle.js'
import {
  hasRealTmp,
  newToken,
  type ReadyRecord,
  type SandboxFiles,
  writeReady,
  writeRecord,
} from './files.js'
import { DetachedRun, type RunscOptions } from './runsc.js'
import { type GuestSession, openSession } from './session.js'
import type { GvisorRecord } from './undo.js'

export const CREATION_STEPS = [
  ...([
    'record',
    'sync',
    'root',
    'slots',
    'volumes',
    'cgroup',
    'network',
    'bundle',
    'run',
    'agent',
    'bind',
  ] as const),
] as const
export type CreationStep = (typeof CREATION_STEPS)[number]

export interface CreationTools {
  runsc: RunscOptions
  agentBinary: string
  pool: Pool
  networks: SandboxNetworks
  log: Log
  /** Called when the stream to the agent is lost. */
  onLost: () => void
  /** For tests: called as each step begins; what it throws fails that step. */
  beforeStep?: (step: CreationStep) => void | Promise<void>
}

export interface Created extends ReadyRecord {
  session: GuestSession
  /** Milliseconds that each step took; some run side by side. */
  tookMs: Partial<Record<CreationStep, number>>
}

/** Processes and threads of a sandbox, runsc's own (some thirty, and one or two for each of the guest's) included. */
const PIDS_MAX = 4096
/** Two cores: what a start can use at most. */
const START_CPU_MILLIS = 2000
const AGENT_MS_MAX = 30_000

export class Creation {
  private readonly tookMs: Created['tookMs'] = {}
  private readonly token = newToken()
  private session: GuestSession | null = null
  private container: DetachedRun | null = null

  constructor(
    private readonly tools: CreationTools,
    private readonly request: RuntimeRequest,
    private readonly files: SandboxFiles,
    private readonly undo: UndoLog<GvisorRecord>,
    private readonly cgroupName: string,
    private readonly signal: AbortSignal,
  ) {}

  /** @throws StepFailed; the agent's session is closed then, everything else is in the undo log. */
  async run(): Promise<Created> {
    try {
      return await this.steps()
    } catch (error) {
      await Promise.all([this.session?.close(), this.container?.cancel()])
      throw error
    }
  }

  private async steps(): Promise<Created> {
    const { sandboxId, spec } = this.request
    const { pool, networks } = this.tools
    const link = await this.step('record', () => this.writeDown())
    const [bindTmp, [slots, volumes], container] = await together([
      this.step('root', () => this.makeRoot()),
      this.makeSlots(),
      this.step('cgroup', async () => {
        createCgroup(this.cgroupName, startLimits(spec))
        this.container = this.prepareContainer(link)
        return this.container
      }),
      this.step('network', async () => (link ? networks.make(link) : undefined)),
      this.step('sync', () => this.syncRecords()),
    ] as const)
    const session = await this.step('bundle', async () => {
      this.writeBundle(pool.rootPath(sandboxId), slots, bindTmp, link)
      this.session = await openSession(
        this.request,
        this.files,
        this.token,
        this.tools.log,
        this.tools.onLost,
      )
      return this.session
    })
    const process = await this.step('run', () => startContainer(container))
    await this.step('agent', () => this.untilConnected(session))
    await this.step('bind', async () => {
      for (const volume of volumes) await bindVolume(session.agent, volume)
      setCpuLimits(this.cgroupName, cpuLimits(spec))
      await writeReady(this.files, { process, volumes })
    })
    return { process, volumes, session, tookMs: this.tookMs }
  }

  private async untilConnected(session: GuestSession): Promise<void> {
    const timeUp = AbortSignal.any([this.signal, AbortSignal.timeout(AGENT_MS_MAX)])
    const gaveUp = Promise.withResolvers<never>()
    const giveUp = () => gaveUp.reject(new Error('the agent has not connected', { cause: timeUp.reason }))
    timeUp.addEventListener('abort', giveUp, { once: true })
    try {
      await Promise.race([session.connected, gaveUp.promise])
    } finally {
      timeUp.removeEventListener('abort', giveUp)
    }
  }

  /** Everything that will be made is on record before any of it exists, and on the disk before the container runs. */
  private async writeDown(): Promise<SandboxLink | null> {
    const { sandboxId, spec } = this.request
    this.files.make()
    const link = spec.network === 'open' ? await this.tools.networks.reserve() : null
    try {
      this.undo.add([
        { kind: 'root', sandboxId },
        { kind: 'slots', sandboxId },
        ...(link ? [{ kind: 'network', index: link.index } as const] : []),
        { kind: 'cgroup', name: this.cgroupName },
        { kind: 'container', id: sandboxId, cgroupName: this.cgroupName },
      ])
    } catch (error) {
      if (link) await this.tools.networks.remove(link.index) // On no record: nobody else would.
      throw error
    }
    return link
  }

  private async syncRecords(): Promise<void> {
    const { sandboxId, epoch } = this.request
    await together([this.undo.sync(), writeRecord(this.files, { sandboxId, epoch, token: this.token })])
  }

  private async makeRoot(): Promise<boolean> {
    const { sandboxId, spec } = this.request
    return hasRealTmp(await this.tools.pool.createRoot(spec.image.imageId, sandboxId, spec.diskLimitBytes))
  }

  private async makeSlots(): Promise<[string, MountedVolume[]]> {
    const { sandboxId, spec } = this.request
    const { pool } = this.tools
    const dir = await this.step('slots', () => pool.slotsDir(sandboxId))
    const volumes = await this.step('volumes', () =>
      together(
        spec.volumes.map(async ({ volumeId, path, readOnly, version: wanted }, i) => {
          const slot = `v${i}`
          const { version } = await pool.mountVolume({ volumeId, sandboxId, slot, readOnly, version: wanted })
          return { volumeId, version, slot, path, readOnly: readOnly || wanted !== null }
        }),
      ),
    )
    return [dir, volumes]
  }

  private writeBundle(root: string, slots: string, bindTmp: boolean, link: SandboxLink | null) {
    const { sandboxId, spec } = this.request
    const { sockets, etc } = this.files
    const config = ociSpec({
      sandboxId,
      spec,
      token: this.token,
      paths: { root, slots, sockets, etc, agentBinary: this.tools.agentBinary },
      bindTmp,
      cgroupName: this.cgroupName,
      netnsPath: link && netnsPath(link.netns),
    })
    this.files.writeBundle(config, etcFiles(hostnameOf(sandboxId, spec.name), link))
  }

  private prepareContainer(link: SandboxLink | null): DetachedRun {
    const input = {
      id: this.request.sandboxId,
      bundle: this.files.bundle,
      network: link ? ('sandbox' as const) : ('none' as const),
      joinFile: joinFile(this.cgroupName),
      pidFile: this.files.pid,
      log: this.files.log,
      panicLog: this.files.panicLog,
    }
    return new DetachedRun(this.tools.runsc, input, this.signal)
  }

  private step<T>(name: CreationStep, work: () => Promise<T>): Promise<T> {
    return traced(`create: ${name}`, {}, () => this.timed(name, work))
  }

  private async timed<T>(name: CreationStep, work: () => Promise<T>): Promise<T> {
    const begin = performance.now()
    try {
      this.signal.throwIfAborted()
      await this.tools.beforeStep?.(name)
      const result = await work()
      if (name !== 'record') failpoint(`create-${name}`)
      // What came too late for the last step ends the sandbox all the same.
      this.signal.throwIfAborted()
      return result
    } catch (cause) {
      throw cause instanceof StepFailed
        ? cause
        : new StepFailed(name, codeOf(cause, this.signal), textOf(cause), { cause })
    } finally {
      const tookMs = performance.now() - begin
      this.tookMs[name] = Math.round(tookMs * 10) / 10
      createStepSeconds.observe({ step: name }, tookMs / 1000)
    }
  }
}

async function startContainer(container: DetachedRun) {
  const process = identify(await container.go())
  if (process === null) throw new Error('the sandbox ended as soon as it had started')
  return process
}

async function bindVolume(agent: AgentSession, { slot, path, readOnly }: MountedVolume): Promise<void> {
  await agent.bind({ source: `${GUEST.slots}/${slot}`, target: path, readOnly })
}

function cpuLimits({ resources, cpuLimitMillis }: SandboxSpec): CpuLimits {
  return { cpuMillis: resources.cpuMillis, cpuLimitMillis }
}

/**
 * The start is the service's work, not the guest's: it is not slowed down by a small share. The limit of CPU is rounded
 * up to the whole cores that gVisor shows for it (never less than two), so that the guest sees the same number.
 */
function startLimits({ resources, cpuLimitMillis }: SandboxSpec): CgroupLimits {
  return {
    memoryBytes: resources.memoryBytes,
    cpuMillis: Math.max(START_CPU_MILLIS, resources.cpuMillis),
    cpuLimitMillis: cpuLimitMillis && Math.max(START_CPU_MILLIS, Math.ceil(cpuLimitMillis / 1000) * 1000),
    pidsMax: PIDS_MAX,
  }
}

/** Waits for all, also when one fails: what still runs would make things behind the back of the undo. */
async function together<const T extends readonly Promise<unknown>[]>(
  work: T,
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  await Promise.allSettled(work)
  return Promise.all(work) as Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }>
}

function codeOf(cause: unknown, signal: AbortSignal): string {
  if (signal.aborted) return 'CREATE_ABORTED'
  const code = (cause as { code?: unknown } | null)?.code
  if (code === 'ENOSPC' || code === 'EDQUOT') return 'NO_SPACE'
  if (cause instanceof CommandFailed || typeof code !== 'string') return 'RUNTIME_FAILED'
  return code
}

function textOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause)
}
