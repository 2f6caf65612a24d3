/** Every sandbox that this worker knows, by id: one epoch of each at a time. */

import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Heartbeat } from '#libs/contract'
import { type ExecId, isId, type SandboxId, type SandboxSpec, SandtrailError } from '#libs/domain'
import { failpoint } from '#libs/failpoint'
import { bootId } from '../boot-clock.js'
import type { ExecSecrets } from '../execs/execs.js'
import { readRecord, removeRecord, type SandboxRecord, syncRecord, writeRecord } from './record.js'
import { Sandbox, type SandboxDeps } from './sandbox.js'
import { Tombstones } from './tombstones.js'

/** An agent is found again within milliseconds. */
const ADOPTION_MS_MAX = 15_000
/** A create takes below a second, on a busy host a few; a stop has 30 s in all. */
const HAND_OVER_MS_MAX = 15_000

export class Sandboxes {
  private readonly byId = new Map<SandboxId, Sandbox>()
  /** Orders for one sandbox are taken one after the other. */
  private readonly turns = new Map<SandboxId, Promise<unknown>>()
  private readonly dir: string
  private readonly tombstones: Tombstones
  private readonly deps: SandboxDeps
  /** Creates wait for it: what is new must not be taken for what a former life left. */
  private swept: Promise<void> = Promise.resolve()

  constructor(stateDir: string, deps: Omit<SandboxDeps, 'onGone' | 'ready'>) {
    this.dir = join(stateDir, 'sandboxes')
    mkdirSync(this.dir, { recursive: true, mode: 0o700 })
    this.tombstones = new Tombstones(join(stateDir, 'tombstones'))
    this.deps = { ...deps, ready: () => this.swept, onGone: (sandbox) => this.remove(sandbox) }
  }

  /** Takes up what an earlier worker process left: lives go on, endings are brought to their end. */
  async resume(): Promise<void> {
    for (const name of readdirSync(this.dir)) {
      const dir = join(this.dir, name)
      const record = isId('sb', name) ? readRecord(dir) : null
      // Either the order was not acknowledged yet, and comes again, or all has been told and only files are left.
      if (record === null) await rm(dir, { recursive: true, force: true })
      else this.add(record, dir)
    }
    for (const sandbox of this.all()) sandbox.resume()
    this.swept = this.sweep()
  }

  /**
   * Waits for creates, and for starts of execs, that were begun here: they need values of env that only this process has,
   * so the next one would have to fail them. Called when no order comes any more.
   */
  async handedOver(): Promise<void> {
    const done = Promise.all(this.all().map((sandbox) => sandbox.handedOver())).then(() => true)
    if (await Promise.race([done, delay(HAND_OVER_MS_MAX, false, { ref: false })])) return
    this.deps.log.warn('a create or the start of an exec hangs, this process does not wait for it any longer')
  }

  /** Lets go of every sandbox and ends none. */
  detach(): void {
    for (const sandbox of this.all()) sandbox.detach()
  }

  all(): Sandbox[] {
    return [...this.byId.values()]
  }

  get(sandboxId: SandboxId): Sandbox | undefined {
    return this.byId.get(sandboxId)
  }

  /** The sandbox of this epoch. @throws SandtrailError SANDBOX_NOT_FOUND, to be tried again; STALE_EPOCH */
  expect(sandboxId: SandboxId, epoch: number): Sandbox {
    const sandbox = this.byId.get(sandboxId)
    if (this.tombstones.has(sandboxId, epoch) || (sandbox !== undefined && sandbox.epoch > epoch)) {
      throw new SandtrailError('STALE_EPOCH', `epoch ${epoch} of ${sandboxId} has ended here`)
    }
    if (sandbox?.epoch === epoch) return sandbox
    throw new SandtrailError('SANDBOX_NOT_FOUND', `${sandboxId} has not arrived here`, { retryable: true })
  }

  /**
   * Resolves once the record is on the disk; the work has begun by then. A second delivery, or a late one, starts
   * nothing.
   */
  create(
    order: { tenant: string; sandboxId: SandboxId; epoch: number; spec: SandboxSpec },
    secrets: ExecSecrets,
  ) {
    const { tenant, sandboxId, epoch, spec } = order
    return this.inTurn(sandboxId, async () => {
      const sandbox = this.take({ sandboxId, epoch, tenant, spec, bootId: bootId() })
      failpoint('create-recorded')
      sandbox?.start(secrets)
      if (sandbox) await syncRecord(sandbox.dir)
    })
  }

  /** Resolves once the cause of the end is on the disk. For an unknown epoch a tombstone is left, and its end reported. */
  stop(order: { tenant: string; sandboxId: SandboxId; epoch: number }): Promise<void> {
    const { tenant, sandboxId, epoch } = order
    return this.inTurn(sandboxId, async () => {
      const known = this.byId.get(sandboxId)
      const sandbox =
        known?.epoch === epoch ? known : this.take({ sandboxId, epoch, tenant, spec: null, bootId: bootId() })
      if (sandbox === undefined) return
      if (sandbox !== known) await syncRecord(sandbox.dir)
      sandbox.end({ kind: 'stopped' })
      await sandbox.journal.sync()
    })
  }

  inventory(): Pick<Heartbeat, 'sandboxes' | 'openExecs'> {
    const sandboxes = this.all().map(({ sandboxId, tenant, epoch, state }) => ({
      sandboxId,
      tenant,
      epoch,
      state,
    }))
    const openExecs: ExecId[] = this.all().flatMap(({ execs }) => execs.openIds)
    return { sandboxes, openExecs }
  }

  /** Every few hours. How many went, or with `dryRun` would go. */
  removeOldTombstones(nowMs: number, dryRun: boolean): number {
    return this.tombstones.removeOld(nowMs, dryRun)
  }

  private async sweep(): Promise<void> {
    const { driver, log } = this.deps
    const settled = Promise.all(this.all().map((sandbox) => sandbox.settled)).then(() => true)
    // What an adopted sandbox uses is known to the driver only afterwards.
    if (!(await Promise.race([settled, delay(ADOPTION_MS_MAX, false, { ref: false })]))) {
      return log.warn('a sandbox hangs, nothing is swept before the next start')
    }
    try {
      await driver.sweep(new Set(this.byId.keys()))
    } catch (err) {
      log.warn({ err }, 'left-overs of a former life were not all removed')
    }
  }

  /** Undefined: this epoch is here already, or has been. */
  private take(record: SandboxRecord): Sandbox | undefined {
    const { sandboxId, epoch } = record
    const known = this.byId.get(sandboxId)
    if (this.tombstones.has(sandboxId, epoch) || (known !== undefined && known.epoch >= epoch))
      return undefined
    if (known !== undefined) {
      // Placed anew, so the control plane has ended the older epoch.
      known.end({ kind: 'stopped' })
      throw new SandtrailError('UNAVAILABLE', `epoch ${known.epoch} of ${sandboxId} is still being removed`)
    }
    const dir = join(this.dir, sandboxId)
    writeRecord(dir, record)
    return this.add(record, dir)
  }

  private add(record: SandboxRecord, dir: string): Sandbox {
    const sandbox = new Sandbox(record, dir, this.deps)
    this.byId.set(record.sandboxId, sandbox)
    return sandbox
  }

  private async remove(sandbox: Sandbox): Promise<void> {
    await this.tombstones.add(sandbox.sandboxId, sandbox.epoch)
    await sandbox.journal.close()
    await removeRecord(sandbox.dir)
    failpoint('record-removed')
    await rm(sandbox.dir, { recursive: true, force: true })
    if (existsSync(sandbox.dir)) throw new SandtrailError('INTERNAL', `${sandbox.dir} would not go`)
    this.byId.delete(sandbox.sandboxId)
  }

  private inTurn<T>(sandboxId: SandboxId, work: () => Promise<T>): Promise<T> {
    const done = (this.turns.get(sandboxId) ?? Promise.resolve()).then(work)
    const settled = done
      .catch(() => {})
      .then(() => {
        if (this.turns.get(sandboxId) === settled) this.turns.delete(sandboxId)
      })
    this.turns.set(sandboxId, settled)
    return done
  }
}
