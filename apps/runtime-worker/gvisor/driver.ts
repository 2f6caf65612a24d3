/** The gVisor runtime: one runsc container, one agent, one cgroup and one root subvolume per sandbox. */

import { mkdirSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { isId, type SandboxId } from '#libs/domain'
import type { Log } from '#libs/service'
import type { Pool } from '#libs/storage'
import { cgroupsBelow, endCgroup, killCgroup, processesOf } from '../cgroup/index.js'
import { Liveness } from '../host/liveness.js'
import { Places } from '../host/places.js'
import { isAlive } from '../host/process.js'
import { SandboxNetworks } from '../network/networks.js'
import type { RunningSandbox, RuntimeDriver, RuntimeExit, RuntimeRequest } from '../runtime.js'
import { type Undoers, UndoLog, unwind } from '../unwind.js'
import { type Created, Creation, type CreationTools } from './creation.js'
import { readReady, readRecord, SandboxFiles } from './files.js'
import { probe } from './probe.js'
import { exitOf, RunningGvisor } from './running.js'
import { forget, knownIds, type RunscOptions, removeNullNetns } from './runsc.js'
import { openSession } from './session.js'
import { describe, type GvisorRecord, gvisorUndoers } from './undo.js'

export interface GvisorOptions {
  /** Path of runsc. */
  runsc: string
  platform: RunscOptions['platform']
  /** Path of the agent's binary on the host. */
  agentBinary: string
  /** The worker's own directory; the driver keeps `runsc/` and `network/` in it. */
  stateDir: string
  /** 6 to 12 of [0-9a-f]: part of every name on the host. */
  instance: string
  pool: Pool
  network: {
    /** `ip:port`, not on loopback. */
    dnsUpstream: string
    /** CIDRs refused to sandboxes besides the private ranges. */
    refused?: readonly string[]
    /** A named netns whose addresses and routes the sandboxes' traffic leaves by; the worker's own by default. */
    hostNetns?: string
  }
  log: Log
  /** For tests: see CreationTools. */
  beforeStep?: CreationTools['beforeStep']
}

/** The process is dead but the kernel may still be taking its memory apart. */
const EXIT_MS_MAX = 10_000
/**
 * Creates at a time. Each is CPU and some waits for the disk, and each of its steps has a limit in time: 100 at once on two
 * cores, side by side, all came too late; in turn the last is ready as soon, and the first long before.
 */
const CREATES_MAX = Math.max(4, 2 * availableParallelism())

export class GvisorDriver implements RuntimeDriver {
  private readonly runsc: RunscOptions
  private readonly networks: SandboxNetworks
  private readonly undoers: Undoers<GvisorRecord>
  private readonly liveness = new Liveness()
  private readonly places = new Places(CREATES_MAX)
  private readonly running = new Map<SandboxId, RunningGvisor>()
  private readonly ending = new Map<SandboxId, Promise<string[]>>()
  /** Creates between their first record and their end. */
  private readonly creating = new Set<SandboxId>()

  constructor(private readonly options: GvisorOptions) {
    const { runsc, platform, stateDir, instance, pool, network, log } = options
    this.runsc = { runsc, platform, root: join(stateDir, 'runsc') }
    this.networks = new SandboxNetworks({ ...network, instance, dir: join(stateDir, 'network'), log })
    this.undoers = gvisorUndoers(this.runsc, pool, this.networks)
  }

  probe(): Promise<void> {
    const { agentBinary, stateDir, instance } = this.options
    return probe(this.runsc, agentBinary, stateDir, `sandtrail-${instance}/probe`)
  }

  create(request: RuntimeRequest, signal: AbortSignal): Promise<RunningSandbox> {
    return this.places.run(signal, () => this.createNow(request, signal))
  }

  private async createNow(request: RuntimeRequest, signal: AbortSignal): Promise<RunningSandbox> {
    const { sandboxId, dir } = request
    const files = new SandboxFiles(dir)
    const undo = new UndoLog<GvisorRecord>(files.undoLog)
    const tools = {
      ...this.options,
      runsc: this.runsc,
      networks: this.networks,
      onLost: () => this.liveness.look(),
    }
    this.creating.add(sandboxId)
    try {
      // runsc would make it readable for everybody, and what it keeps there has the agent's token.
      mkdirSync(this.runsc.root, { recursive: true, mode: 0o700 })
      const creation = new Creation(tools, request, files, undo, this.cgroupName(sandboxId), signal)
      const created = await creation.run()
      this.options.log.debug({ sandboxId, tookMs: created.tookMs }, 'sandbox created')
      return this.hold(request, created)
    } catch (error) {
      const left = await this.unwind(dir)
      if (left.length > 0) this.options.log.warn({ sandboxId, left }, 'a failed create left something behind')
      throw error
    } finally {
      this.creating.delete(sandboxId)
    }
  }

  async adopt(request: RuntimeRequest): Promise<RunningSandbox | null> {
    const files = new SandboxFiles(request.dir)
    const [record, ready] = [await readRecord(files), await readReady(files)]
    if (!record || !ready || record.epoch !== request.epoch || !isAlive(ready.process)) return null
    // The same pid and start time in the cgroup that was made for it: it cannot be anything else.
    if (!processesOf(this.cgroupName(request.sandboxId)).includes(ready.process.pid)) return null
    await this.adoptNetwork(files)
    const session = await openSession(request, files, record.token, this.options.log, () =>
      this.liveness.look(),
    )
    return this.hold(request, { ...ready, session })
  }

  async postMortem(sandboxId: SandboxId): Promise<RuntimeExit> {
    return exitOf(this.cgroupName(sandboxId))
  }

  /** Calls for one sandbox join the one that is under way. */
  async destroy(sandboxId: SandboxId, dir: string): Promise<string[]> {
    const ending =
      this.ending.get(sandboxId) ?? this.end(sandboxId, dir).finally(() => this.ending.delete(sandboxId))
    this.ending.set(sandboxId, ending)
    return ending
  }

  async sweep(known: ReadonlySet<SandboxId>): Promise<void> {
    const parent = `sandtrail-${this.options.instance}`
    for (const id of cgroupsBelow(parent)) {
      if (!isId('sb', id) || this.isOwned(id, known)) continue
      await endCgroup(`${parent}/${id}`, EXIT_MS_MAX)
    }
    for (const id of await knownIds(this.runsc)) {
      if (isId('sb', id) && !this.isOwned(id, known)) await forget(this.runsc, id)
    }
    await this.options.pool.sweep({ sandboxes: known })
    await this.networks.removeUnused()
  }

  /** Lets go of every sandbox without ending it, and removes what no sandbox uses. */
  async stop(): Promise<void> {
    this.liveness.stop()
    for (const { session } of this.running.values()) await session.close()
    await this.networks.stop()
    this.running.clear()
    await this.removeShared()
  }

  private async end(sandboxId: SandboxId, dir: string): Promise<string[]> {
    const running = this.running.get(sandboxId)
    if (running) {
      // The count of out-of-memory kills is read before its cgroup goes.
      if (await killCgroup(this.cgroupName(sandboxId), EXIT_MS_MAX)) await running.exited
      await running.session.close()
      this.running.delete(sandboxId)
    }
    return this.unwind(dir)
  }

  private cgroupName(sandboxId: SandboxId): string {
    return `sandtrail-${this.options.instance}/${sandboxId}`
  }

  private isOwned(sandboxId: SandboxId, known: ReadonlySet<SandboxId>): boolean {
    return known.has(sandboxId) || this.creating.has(sandboxId) || this.running.has(sandboxId)
  }

  private hold(
    { sandboxId, epoch }: RuntimeRequest,
    { session, volumes, process }: Pick<Created, 'session' | 'volumes' | 'process'>,
  ): RunningSandbox {
    const cgroupName = this.cgroupName(sandboxId)
    const { liveness } = this
    const running = new RunningGvisor({ sandboxId, epoch, session, volumes, process, cgroupName, liveness })
    this.running.set(sandboxId, running)
    return running
  }

  private async adoptNetwork(files: SandboxFiles): Promise<void> {
    for (const { record } of await new UndoLog<GvisorRecord>(files.undoLog).newestFirst()) {
      if (record.kind !== 'network') continue
      await this.networks.adopt(record.index).catch((error: unknown) => {
        // The sandbox lives; its way out may come back.
        this.options.log.error({ err: error }, 'cannot take over the network of a sandbox')
      })
    }
  }

  /** Everything on record; then the records themselves. Resolves with what would not go. */
  private async unwind(dir: string): Promise<string[]> {
    const files = new SandboxFiles(dir)
    const left = await unwind(new UndoLog<GvisorRecord>(files.undoLog), this.undoers, (record, error) => {
      this.options.log.warn({ err: error, record: describe(record) }, 'cannot undo')
    })
    if (left.length === 0) await rm(files.home, { recursive: true, force: true })
    return left.map(describe)
  }

  /** What sandboxes without a network share; runsc makes it again for the next one. Only when no create can begin. */
  private async removeShared(): Promise<void> {
    if (this.running.size > 0 || this.creating.size > 0) return
    if ((await knownIds(this.runsc)).length > 0) return
    await removeNullNetns(this.runsc)
    await rm(this.runsc.root, { recursive: true, force: true })
  }
}
